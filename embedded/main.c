/* Runs a generated network on every input that the board hands out, and prints class and scores of each.
 *
 * The script names the header and the network: NETWORK_HEADER, network_run, network_class, network_score,
 * network_scratch, NETWORK_OUTPUTS, NETWORK_INPUT_BYTES, and NETWORK_FLOAT where scores are floats.
 *
 * A line is "CLASS SCORE SCORE...", all of it hexadecimal: integers as 32 bits in two's complement, floats as their
 * bits. Before them comes "@STACK", the stack pointer from which the network is called. There are no string constants
 * and no divisions, so that nothing here needs RAM or the compiler's library on any board.
 */
#include NETWORK_HEADER
#include "board.h"
#ifdef NETWORK_POISON
#include <sanitizer/msan_interface.h>
#endif

/* The input begins at an odd address and memory is dirty: the interface promises neither alignment nor zeros. */
static uint8_t input_at_odd_address[1 + NETWORK_INPUT_BYTES] __attribute__((aligned(4)));
static network_score scores[NETWORK_OUTPUTS];
static network_scratch scratch;

static void put_hex(uint32_t value, char end) {
    int shift = 28;
    while (shift > 0 && value >> shift == 0)
        shift -= 4;
    for (; shift >= 0; shift -= 4) {
        const char digit = (char)(value >> shift & 15);
        board_put((char)(digit < 10 ? '0' + digit : 'a' - 10 + digit));
    }
    board_put(end);
}

static uint32_t bits(network_score score) {
#ifdef NETWORK_FLOAT
    union {
        float number;
        uint32_t bits;
    } cast = {score};
    return cast.bits;
#else
    return (uint32_t)(int32_t)score;
#endif
}

static void soil(void *memory, unsigned bytes) {
#ifdef NETWORK_POISON /* MemorySanitizer: using what is not written yet is an error */
    __msan_poison(memory, bytes);
#else
    for (uint8_t *byte = (uint8_t *)memory; bytes; bytes--)
        *byte++ = 0xa5;
#endif
}

int main(void) {
    uint8_t *const input = input_at_odd_address + 1;
    board_put('@');
    put_hex(board_stack(), '\n');
    while (board_read(input, NETWORK_INPUT_BYTES)) {
        soil(&scratch, sizeof scratch);
        soil(scores, sizeof scores);
        network_run(input, scores, &scratch);
        put_hex((uint32_t)network_class(scores), ' ');
        for (int i = 0; i < NETWORK_OUTPUTS; i++)
            put_hex(bits(scores[i]), i + 1 < NETWORK_OUTPUTS ? ' ' : '\n');
    }
    board_exit(0);
    return 0;
}
