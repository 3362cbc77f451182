// A plugin of QEMU's user-mode emulators that counts the guest's instructions and prints the sum to stderr.
// Declares what it needs of the plugin interface, version 1 (qemu-plugin.h is not packaged everywhere).
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

typedef uint64_t id;
struct tb;
extern void qemu_plugin_register_vcpu_tb_trans_cb(id, void (*)(id, struct tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct tb *, int op, void *sum, uint64_t add);
extern size_t qemu_plugin_tb_n_insns(const struct tb *);
extern void qemu_plugin_register_atexit_cb(id, void (*)(id, void *), void *);

int qemu_plugin_version = 1;
static uint64_t instructions;

static void translated(id plugin, struct tb *block) {
    (void)plugin;
    const int add_u64 = 0;
    qemu_plugin_register_vcpu_tb_exec_inline(block, add_u64, &instructions, qemu_plugin_tb_n_insns(block));
}

static void ended(id plugin, void *data) {
    (void)plugin, (void)data;
    fprintf(stderr, "instructions %" PRIu64 "\n", instructions);
}

int qemu_plugin_install(id plugin, const void *info, int argc, char **argv) {
    (void)info, (void)argc, (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(plugin, translated);
    qemu_plugin_register_atexit_cb(plugin, ended, NULL);
    return 0;
}
