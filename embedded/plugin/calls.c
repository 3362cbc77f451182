// A plugin of QEMU's system emulators that counts, for every call of one function, the instructions until it returns,
// and finds the lowest address in a region, the stack, that it stores to.
//
//   -plugin calls.so,entry=ADDRESS,stack=LOW:HIGH,out=FILE
//
// writes a line "INSTRUCTIONS LOWEST" for each call; LOWEST is HIGH where nothing was stored. A call is over when the
// instruction behind the one that called is reached. Interrupts would count; the images here have none.
//
// Declares what it needs of the plugin interface, version 1 (qemu-plugin.h is not packaged everywhere).
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t id;
struct tb;
struct insn;
extern void qemu_plugin_register_vcpu_tb_trans_cb(id, void (*)(id, struct tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct tb *, void (*)(unsigned, void *), int flags, void *);
extern void qemu_plugin_register_vcpu_mem_cb(struct insn *, void (*)(unsigned, uint32_t, uint64_t, void *), int flags,
                                             int direction, void *);
extern size_t qemu_plugin_tb_n_insns(const struct tb *);
extern uint64_t qemu_plugin_tb_vaddr(const struct tb *);
extern struct insn *qemu_plugin_tb_get_insn(const struct tb *, size_t);
extern uint64_t qemu_plugin_insn_vaddr(const struct insn *);
extern size_t qemu_plugin_insn_size(const struct insn *);
extern void qemu_plugin_register_atexit_cb(id, void (*)(id, void *), void *);

int qemu_plugin_version = 1;

/// A run of instructions that is entered at its first and left behind its last.
struct block {
    uint64_t start, end, instructions;
};

static uint64_t entry, stack_low, stack_high;
static FILE *out;

static bool inside;
static uint64_t instructions, lowest, comes_back_to, left_at;

static void executed(unsigned cpu, void *data) {
    (void)cpu;
    const struct block *block = data;
    if (inside && block->start == comes_back_to) {
        inside = false;
        fprintf(out, "%" PRIu64 " %" PRIu64 "\n", instructions, lowest);
    } else if (!inside && block->start == entry) {
        inside = true;
        instructions = 0;
        lowest = stack_high;
        comes_back_to = left_at;
    }
    if (inside)
        instructions += block->instructions;
    left_at = block->end;
}

static void stored(unsigned cpu, uint32_t access, uint64_t address, void *data) {
    (void)cpu, (void)access, (void)data;
    if (inside && address >= stack_low && address < lowest)
        lowest = address;
}

static void translated(id plugin, struct tb *tb) {
    (void)plugin;
    const int no_registers = 0, writes = 2;
    const size_t count = qemu_plugin_tb_n_insns(tb);
    const struct insn *last = qemu_plugin_tb_get_insn(tb, count - 1);
    // Never freed: QEMU does not tell when a block is gone.
    struct block *block = malloc(sizeof *block);
    if (!block)
        abort();
    *block = (struct block){
        qemu_plugin_tb_vaddr(tb), qemu_plugin_insn_vaddr(last) + qemu_plugin_insn_size(last), count};
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, no_registers, block);
    for (size_t i = 0; i < count; i++)
        qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, i), stored, no_registers, writes, NULL);
}

static void ended(id plugin, void *data) {
    (void)plugin, (void)data;
    fclose(out);
}

int qemu_plugin_install(id plugin, const void *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (sscanf(argv[i], "entry=%" SCNi64, &entry) == 1)
            continue;
        if (sscanf(argv[i], "stack=%" SCNi64 ":%" SCNi64, &stack_low, &stack_high) == 2)
            continue;
        if (!strncmp(argv[i], "out=", 4) && (out = fopen(argv[i] + 4, "w")))
            continue;
        fprintf(stderr, "calls: bad argument %s\n", argv[i]);
        return -1;
    }
    if (!out) {
        fprintf(stderr, "calls: out=FILE is missing\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(plugin, translated);
    qemu_plugin_register_atexit_cb(plugin, ended, NULL);
    return 0;
}
