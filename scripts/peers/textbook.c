// The binary matrix product of textbooks: XNOR, popcount, add. Rows of 64-bit words, 1 is +1 and 0 is -1.
#include <stdint.h>

static inline int agree(uint64_t x, uint64_t y) { return __builtin_popcountll(~(x ^ y)); }

// c[m][n] = a[m][words] b[n][words]^T, each sum by itself.
void xnor_gemm_dot(long m, long n, long words, const uint64_t *restrict a, const uint64_t *restrict b,
                   int32_t *restrict c) {
#pragma omp parallel for if (m > 1)
    for (long i = 0; i < m; i++)
        for (long j = 0; j < n; j++) {
            long sum = 0;
            for (long p = 0; p < words; p++) sum += agree(a[i * words + p], b[j * words + p]);
            c[i * n + j] = (int32_t)(2 * sum - 64 * words);
        }
}

// c[m][n] = a[m][words] b[words][n], a row of sums at a time, four words of each sum per pass.
void xnor_gemm_row(long m, long n, long words, const uint64_t *restrict a, const uint64_t *restrict b,
                   int32_t *restrict c) {
#pragma omp parallel for if (m > 1)
    for (long i = 0; i < m; i++) {
        int32_t *restrict row = c + i * n;
        const uint64_t *x = a + i * words;
        long p = 0;
        for (long j = 0; j < n; j++) row[j] = (int32_t)(-64 * words);
        for (; p + 4 <= words; p += 4) {
            const uint64_t *y = b + p * n;
            for (long j = 0; j < n; j++)
                row[j] += 2 * (agree(x[p], y[j]) + agree(x[p + 1], y[n + j]) + agree(x[p + 2], y[2 * n + j])
                               + agree(x[p + 3], y[3 * n + j]));
        }
        for (; p < words; p++)
            for (long j = 0; j < n; j++) row[j] += 2 * agree(x[p], b[p * n + j]);
    }
}

// Signs of floats, 64 to a word.
void binarize(long words, const float *restrict x, uint64_t *restrict bits) {
#pragma omp parallel for
    for (long i = 0; i < words; i++) {
        uint64_t word = 0;
        for (int bit = 0; bit < 64; bit++) word |= (uint64_t)(x[64 * i + bit] >= 0) << bit;
        bits[i] = word;
    }
}
