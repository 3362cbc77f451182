/* Cortex-M and RISC-V by semihosting (Arm's "Semihosting for AArch32 and AArch64" and its RISC-V binding): the debugger,
 * here QEMU, reads the file `inputs` and writes the file `outputs`, so that images need neither flash nor RAM. Also the
 * start-up code. */
#include "board.h"

enum { SYS_OPEN = 1, SYS_WRITE = 5, SYS_READ = 6, SYS_EXIT = 0x18 };
enum { MODE_READ_BINARY = 1, MODE_WRITE_BINARY = 5 };
enum { STOPPED_WELL = 0x20026, STOPPED_BY_ERROR = 0x20023 };

static uintptr_t inputs, outputs;

static uintptr_t semihosting(uintptr_t operation, uintptr_t argument) {
#ifdef __riscv
    register uintptr_t a0 __asm__("a0") = operation;
    register uintptr_t a1 __asm__("a1") = argument;
    /* These three, uncompressed and on one page, are how the debugger knows that it is called. */
    __asm__ volatile(".option push\n.option norvc\n.balign 16\n"
                     "slli x0, x0, 0x1f\nebreak\nsrai x0, x0, 7\n.option pop"
                     : "+r"(a0) : "r"(a1) : "memory");
    return a0;
#else
    register uintptr_t r0 __asm__("r0") = operation;
    register uintptr_t r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
#endif
}

static uintptr_t open_file(const char *name, uintptr_t length, uintptr_t mode) {
    const uintptr_t block[] = {(uintptr_t)name, mode, length};
    return semihosting(SYS_OPEN, (uintptr_t)block);
}

int board_read(uint8_t *bytes, unsigned count) {
    const uintptr_t block[] = {inputs, (uintptr_t)bytes, count};
    /* Answers how many are missing. */
    return semihosting(SYS_READ, (uintptr_t)block) == 0;
}

void board_put(char character) {
    const uintptr_t block[] = {outputs, (uintptr_t)&character, 1};
    semihosting(SYS_WRITE, (uintptr_t)block);
}

void board_exit(int status) {
    semihosting(SYS_EXIT, status ? STOPPED_BY_ERROR : STOPPED_WELL);
    for (;;) {
    }
}

int main(void);
extern uint32_t bss_start[], bss_end[];

__attribute__((used)) static void start(void) {
    for (uint32_t *word = bss_start; word < bss_end; word++)
        *(volatile uint32_t *)word = 0;
#ifdef __ARM_FP
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20; /* CPACR: the floating-point unit answers */
    __asm__ volatile("dsb\nisb");
#endif
    inputs = open_file("inputs", 6, MODE_READ_BINARY);
    outputs = open_file("outputs", 7, MODE_WRITE_BINARY);
    main();
}

__attribute__((used)) static void fault(void) {
    board_exit(1);
}

#ifdef __riscv
__asm__(".section .reset, \"ax\"\n"
        ".option arch, +zicsr\n"
        ".globl reset\n"
        "reset:\n"
        "la sp, stack_top\n"
        "la t0, trap\n"
        "csrw mtvec, t0\n"
        "j start\n"
        ".balign 4\n"
        "trap:\n"
        "j fault\n");
#else
extern uint32_t stack_top[];
typedef void (*handler)(void);
/* Stack, reset, and what a core calls when it meets an error. */
__attribute__((section(".reset"), used)) const handler reset[16] = {
    (handler)(uintptr_t)stack_top, start, fault, fault, fault, fault, fault};
#endif
