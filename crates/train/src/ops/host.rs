//! Ops of our own on Burn's CPU backend: one extension that runs any function of slices with its backward pass.
//!
//! Burn's CPU backend computes op by op with tensors in between. Here a whole op (a binary convolution on the bit kernels,
//! a BatchNorm) is one pass over memory each way, and its backward pass keeps what it needs as it likes.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, TensorData};
use std::fmt;
use std::sync::Arc;

/// Numbers of a tensor, shared.
#[derive(Clone)]
pub struct Numbers(FloatTensor<Flex>);

impl Numbers {
    fn new(tensor: FloatTensor<Flex>) -> Self {
        let whole = tensor.as_slice::<f32>().is_some();
        Numbers(if whole { tensor } else { tensor.to_contiguous() })
    }
}

impl std::ops::Deref for Numbers {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        self.0.as_slice().expect("made contiguous when it was wrapped")
    }
}

/// The numbers of a tensor on any device, copied.
pub fn numbers(t: &Tensor<4>) -> Vec<f32> {
    t.to_data().try_into_vec().expect("floats")
}

/// From the gradient of the output to those of the inputs that are wanted.
pub type BackwardPass = Arc<dyn Fn(&[f32], [bool; 3]) -> [Option<Vec<f32>>; 3] + Send + Sync>;

/// A function of up to three tensors on the CPU.
pub trait HostOp: fmt::Debug + Send + Sync {
    /// Shape of the output.
    fn shape(&self) -> [usize; 4];
    /// Computes the output, and its backward pass if that is asked for. Inputs that the op lacks repeat the first.
    fn run(&self, inputs: [Numbers; 3], backward: bool) -> (Vec<f32>, Option<BackwardPass>);
}

#[backend_extension(Flex, Autodiff)]
trait Host: Backend {
    fn host(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        op: Arc<dyn HostOp>,
    ) -> FloatTensor<Self>;
}

fn tensor(data: Vec<f32>, shape: &[usize]) -> FloatTensor<Flex> {
    FloatTensor::<Flex>::from_data(TensorData::new(data, shape))
}

impl Host for Flex {
    fn host(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        op: Arc<dyn HostOp>,
    ) -> FloatTensor<Self> {
        tensor(op.run([x, a, b].map(Numbers::new), false).0, &op.shape())
    }
}

#[derive(Debug)]
struct HostBackward;

#[derive(Clone)]
struct State {
    pass: BackwardPass,
    shapes: [Vec<usize>; 3],
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("shapes", &self.shapes).finish_non_exhaustive()
    }
}

impl Backward<Flex, 3> for HostBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = Numbers::new(gradients.consume::<Flex>(&ops.node));
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let made = (ops.state.pass)(&gradient, wanted);
        for ((parent, made), shape) in ops.parents.into_iter().zip(made).zip(&ops.state.shapes) {
            if let (Some(parent), Some(made)) = (parent, made) {
                gradients.register::<Flex>(parent.id, tensor(made, shape));
            }
        }
    }
}

impl<C: CheckpointStrategy> Host for Autodiff<Flex, C> {
    fn host(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        op: Arc<dyn HostOp>,
    ) -> FloatTensor<Self> {
        let guards = [x.node(), a.node(), b.node()];
        let inputs = [x, a, b].map(|t| t.into_primitive());
        let shapes = inputs.each_ref().map(|t| t.layout().shape().to_vec());
        let inputs = inputs.map(Numbers::new);
        match HostBackward.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (out, pass) = op.run(inputs, true);
                let pass = pass.expect("a backward pass was asked for");
                prep.finish(State { pass, shapes }, tensor(out, &op.shape()))
            }
            OpsKind::UnTracked(prep) => prep.finish(tensor(op.run(inputs, false).0, &op.shape())),
        }
    }
}

/// Runs an op on tensors of the CPU backend.
pub fn apply(op: impl HostOp + 'static, x: Tensor<4>, others: &[&Tensor<4>]) -> Tensor<4> {
    // What the op lacks repeats its input, taken off the graph so that no gradient is asked for.
    let off = |x: &Tensor<4>| if x.is_autodiff() { x.clone().inner().autodiff() } else { x.clone() };
    let other = |i: usize| others.get(i).map_or_else(|| off(&x), |t| (*t).clone());
    let [a, b] = [other(0), other(1)];
    let [x, a, b] = [x, a, b].map(Tensor::into_dispatch);
    Tensor::from_dispatch(<Dispatch as Host>::host(x, a, b, Arc::new(op)))
}
