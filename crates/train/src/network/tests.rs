use super::*;

fn network(text: &str) -> Result<Network> {
    Network::new(&toml::from_str(text).unwrap())
}

#[test]
fn layers_expand_to_nodes_with_names_and_shapes() {
    let n = network(
        "input = [8, 6, 3]
         layers = [
             { conv = { filters = 4, kernel = 3, pad = 1, bias = true } },
             { repeat = { times = 2, layers = [{ norm = {} }, { act = 'rprelu' }] } },
             { residual = { body = [{ act = 'sign' }, { conv = { filters = 4, kernel = 1, groups = 2 } }] } },
             { max_pool = { size = 2, stride = 2 } },
             { concat = { branches = [[], [{ act = 'pact:2' }]] } },
             { dense = { units = 5, weights = 'float' } },
         ]",
    )
    .unwrap();
    let names: Vec<_> = n.nodes.iter().map(|n| n.name.as_str()).collect();
    let expected = "conv1 norm1 act1 norm2 act2 sign1 conv2 add1 pool1 quantize1 concat1 dense1";
    assert_eq!(names, expected.split(' ').collect::<Vec<_>>());
    assert_eq!(n.nodes[7].inputs, [7, 5]);
    assert_eq!(n.shape(8), Shape::new(8, 6, 4));
    assert_eq!(n.shape(11), Shape::new(4, 3, 8));
    assert_eq!(n.classes(), 5);
    let params: Vec<_> = n.params.iter().map(|p| (p.name.as_str(), p.role, p.shape)).collect();
    assert_eq!(
        params[..2],
        [("conv1.weight", Role::Latent, [4, 3, 3, 3]), ("conv1.bias", Role::Offset, [1, 1, 1, 4])]
    );
    assert!(params.contains(&("conv2.weight", Role::Latent, [4, 1, 1, 2])));
    assert!(params.contains(&("quantize1.range", Role::Range, [1, 1, 1, 1])));
    assert_eq!(params.last(), Some(&("dense1.weight", Role::Weight, [5, 4, 3, 8])));
    assert_eq!(n.quant(0), Some(Quant::new(8, Encoding::Unsigned)));
    assert_eq!((n.quant(6), n.quant(7), n.quant(11)), (Some(Quant::BIT), None, None));
    assert_eq!(n.last_uses()[5], Some(7));
    assert_eq!(n.last_uses()[12], None);
}

#[test]
fn what_does_not_fit_is_named() {
    let says = |rest: &str| network(rest).unwrap_err().to_string();
    let layers = |layers: &str| says(&format!("input = [4, 4, 3]\nlayers = [{layers}]"));
    for (text, what) in [
        (layers(""), "network.layers"),
        (layers("{conv={filters=2,kernel=5}}"), "conv1"),
        (layers("{conv={filters=2,kernel=1,groups=2}}"), "groups"),
        (layers("{conv={filters=2,kernel=1,pad_value=2}}"), "pad_value"),
        (layers("{conv={filters=3,kernel=2,fixed=[1.0]}}"), "fixed"),
        (layers("{residual={body=[{max_pool={size=2,stride=2}}]}}"), "add1"),
        (layers("{concat={branches=[[],[{max_pool={size=2,stride=2}}]]}}"), "concat1"),
        (layers("{norm={eps=0.0}}"), "norm1"),
        (layers("{dropout={rate=1.0}}"), "dropout1"),
        (
            layers(
                "{act='pact:8'},{conv={filters=4129,kernel=1}},{act='pact:8'},{dense={units=2,weights='dorefa:8'}}",
            ),
            "dense1",
        ),
        (says("input = [0, 4, 3]\nlayers = [{act='relu'}]"), "network.input"),
        (says("input = [4, 4, 3]\nact = 'default'\nlayers = [{act='default'}]"), "network.act"),
        (says("input = [4, 4, 3]\nmean = [1.0, 2.0]\nlayers = [{act='relu'}]"), "network.mean"),
        (says("input = [4, 4, 3]\nstd = [0.0]\nlayers = [{act='relu'}]"), "network.std"),
    ] {
        assert!(text.contains(what), "{text}");
    }
}
