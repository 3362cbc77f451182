/* Runs a program for the ATmega328P at 16 MHz in libsimavr: the file `inputs` goes to its UART, what it sends goes to
 * the file `outputs`, until it has sent so many lines. For each call of one function a line "CYCLES LOWEST" goes to
 * the file `calls`: cycles from its first instruction to behind its return, and the lowest stack pointer.
 *
 *   simulate PROGRAM.elf ENTRY END_OF_DATA LINES
 *
 * ENTRY is the function's address in bytes, END_OF_DATA where variables end, which the stack must not reach.
 * It ends with 1 where the program crashes, with 2 where the stack runs into variables. */
#include <inttypes.h>
#include <simavr/avr_uart.h>
#include <simavr/sim_avr.h>
#include <simavr/sim_elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SPL = 0x3d, SPH = 0x3e };

static FILE *outputs;
static unsigned long lines;
static int ready;

static void sent(struct avr_irq_t *irq, uint32_t value, void *data) {
    (void)irq, (void)data;
    putc((int)value, outputs);
    if (value == '\n')
        lines--;
}

static void may_send(struct avr_irq_t *irq, uint32_t value, void *data) {
    (void)irq, (void)value;
    ready = *(int *)data;
}

/* An AVR with the program and its UART connected. */
static avr_t *start(const char *path) {
    static int yes = 1, no = 0;
    elf_firmware_t program = {0};
    avr_t *avr = avr_make_mcu_by_name("atmega328p");
    if (!avr || elf_read_firmware(path, &program))
        return NULL;
    program.frequency = 16000000;
    avr_init(avr);
    avr_load_firmware(avr, &program);
    avr->run_cycle_limit = 1; /* one instruction at a time */
    avr->log = LOG_NONE;
    uint32_t flags = 0; /* no lines on the console, no sleep while the program waits */
    avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags);
    const uint32_t uart = AVR_IOCTL_UART_GETIRQ('0');
    avr_irq_register_notify(avr_io_getirq(avr, uart, UART_IRQ_OUTPUT), sent, NULL);
    avr_irq_register_notify(avr_io_getirq(avr, uart, UART_IRQ_OUT_XON), may_send, &yes);
    avr_irq_register_notify(avr_io_getirq(avr, uart, UART_IRQ_OUT_XOFF), may_send, &no);
    return avr;
}

static unsigned stack(const avr_t *avr) {
    return avr->data[R_SPL] | (unsigned)avr->data[R_SPH] << 8;
}

/* Whether the next instruction is OUT to this register. */
static int writes(const avr_t *avr, unsigned io_register) {
    const unsigned word = avr->flash[avr->pc] | (unsigned)avr->flash[avr->pc + 1] << 8;
    return (word & 0xf800) == 0xb800 && ((word & 15) | (word >> 5 & 0x30)) == io_register;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "simulate PROGRAM.elf ENTRY END_OF_DATA LINES\n");
        return 1;
    }
    const unsigned long entry = strtoul(argv[2], NULL, 0), data = strtoul(argv[3], NULL, 0);
    lines = strtoul(argv[4], NULL, 0);
    avr_t *avr = start(argv[1]);
    FILE *const inputs = fopen("inputs", "rb"), *const calls = fopen("calls", "w");
    outputs = fopen("outputs", "w");
    if (!avr || !inputs || !calls || !outputs) {
        fprintf(stderr, "cannot read %s or inputs, or write outputs and calls\n", argv[1]);
        return 1;
    }
    avr_irq_t *input = avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_INPUT);
    int inside = 0, half_written = 0;
    unsigned lowest = 0, called_with = 0;
    avr_cycle_count_t began = 0;
    while (lines) {
        if (!inside && avr->pc == entry) {
            inside = 1;
            lowest = called_with = stack(avr);
            began = avr->cycle;
        }
        /* Compilers write the high byte of the stack pointer first: until the low one follows, it means nothing. */
        half_written = (half_written && !writes(avr, SPL)) || writes(avr, SPH);
        const int state = avr_run(avr);
        if (state == cpu_Done || state == cpu_Crashed) {
            fprintf(stderr, "the program crashed at 0x%x\n", avr->pc);
            return 1;
        }
        if (inside && !half_written) {
            const unsigned now = stack(avr);
            if (now < lowest)
                lowest = now;
            if (lowest < data) {
                fprintf(stderr, "the stack runs into the variables\n");
                return 2;
            }
            if (now > called_with) { /* the return address is taken back */
                inside = 0;
                fprintf(calls, "%" PRIu64 " %u\n", (uint64_t)(avr->cycle - began), lowest);
            }
        } else if (!inside && ready) {
            const int byte = getc(inputs);
            if (byte == EOF)
                ready = 0;
            else
                avr_raise_irq(input, (uint32_t)byte);
        }
    }
    return fclose(calls) || fclose(outputs) ? 1 : 0;
}
