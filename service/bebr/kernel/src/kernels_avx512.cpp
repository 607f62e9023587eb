// AVX-512 with VNNI and VPOPCNTDQ: one vector is one word of a whole group.
#include <immintrin.h>

#include "kernel_table.hpp"

namespace bebr {
namespace {

struct Avx512 {
    using Words = __m512i;    // one word of 16 rows: as bytes, four levels of each
    using Sums = __m512i;     // int32, one per row
    using Partial = __m512i;  // vpdpbusd adds to int32 directly: a partial sum is a sum,
    using Counts = __m512i;   // and so is a count
    using Floats = __m512;

    static constexpr int kVectors = 1;  // vectors per group
    static constexpr int kDotTile = 12;
    static constexpr int kHammingTile = 8;
    static constexpr int kCentroidTile = 8;
    template <int Q>
    static constexpr int kDotGroups = Q == 1 ? 1 : 2;
    template <int Q>
    static constexpr int kHammingGroups = Q == 1 ? 1 : 2;
    template <int Q>
    static constexpr int kCentroidGroups = Q == 1 ? 4 : 2;
    template <int Bits>
    static constexpr std::uint32_t kWordsPerPartial = UINT32_MAX;
    static constexpr std::uint32_t kSignWordsPerCount = 1u << 20;
    static constexpr bool kFieldsInPlace = true;

    BEBR_INLINE static Words load(const std::uint32_t* words, int) { return _mm512_load_si512(words); }
    BEBR_INLINE static Words broadcast(std::int32_t value) { return _mm512_set1_epi32(value); }
    BEBR_INLINE static Partial no_partial() { return _mm512_setzero_si512(); }
    BEBR_INLINE static Sums no_sum() { return _mm512_setzero_si512(); }
    BEBR_INLINE static Sums add(Sums a, Sums b) { return _mm512_add_epi32(a, b); }

    template <int Bits>
    BEBR_INLINE static Words levels(Words words, int field) {
        const Words low = field == 0 ? words : _mm512_srli_epi16(words, Bits * field);
        return _mm512_and_si512(low, _mm512_set1_epi8((1 << Bits) - 1));
    }
    template <int Bits>
    BEBR_INLINE static Words levels_in_place(Words words, int field) {
        return _mm512_and_si512(words, _mm512_set1_epi8(static_cast<char>(((1 << Bits) - 1) << (Bits * field))));
    }
    template <int Bits>
    BEBR_INLINE static Sums shift_down(Sums sum, int field) {
        return _mm512_srai_epi32(sum, Bits * field);
    }
    BEBR_INLINE static Partial dot(Partial sum, Words levels, Words value) {
        return _mm512_dpbusd_epi32(sum, levels, value);
    }
    BEBR_INLINE static Sums widen(Sums sum, Partial partial) { return _mm512_add_epi32(sum, partial); }

    BEBR_INLINE static Words both(Words a, Words b) { return _mm512_and_si512(a, b); }
    BEBR_INLINE static Words either(Words a, Words b) { return _mm512_or_si512(a, b); }
    BEBR_INLINE static Words shift_right(Words a, int bits) { return bits == 0 ? a : _mm512_srli_epi32(a, bits); }
    BEBR_INLINE static Counts no_count() { return _mm512_setzero_si512(); }
    BEBR_INLINE static Counts count_differing(Counts count, Words a, Words b) {
        return _mm512_add_epi32(count, _mm512_popcnt_epi32(_mm512_xor_si512(a, b)));
    }
    BEBR_INLINE static Sums widen_counts(Sums sum, Counts count) { return _mm512_add_epi32(sum, count); }

    BEBR_INLINE static Floats no_score() { return _mm512_setzero_ps(); }
    BEBR_INLINE static Floats add_scaled(Floats score, Sums sum, std::int32_t offset, float scale) {
        const Sums exact = _mm512_add_epi32(_mm512_slli_epi32(sum, 1), _mm512_set1_epi32(offset));
        return _mm512_add_ps(score, _mm512_mul_ps(_mm512_set1_ps(scale), _mm512_cvtepi32_ps(exact)));
    }
    BEBR_INLINE static Floats load_gains(const std::uint16_t* gains, int) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(gains)));
    }
    BEBR_INLINE static Floats add_weighted(Floats score, Sums sum, std::int32_t offset, float scale, Floats scales) {
        const Floats exact = _mm512_cvtepi32_ps(_mm512_add_epi32(sum, _mm512_set1_epi32(offset)));
        return _mm512_add_ps(score, _mm512_mul_ps(_mm512_mul_ps(_mm512_set1_ps(scale), scales), exact));
    }
    BEBR_INLINE static void keep_best(Floats& best, Sums& number, Floats score, std::int32_t candidate) {
        const __mmask16 better = _mm512_cmp_ps_mask(score, best, _CMP_GT_OQ);
        best = _mm512_mask_mov_ps(best, better, score);
        number = _mm512_mask_mov_epi32(number, better, _mm512_set1_epi32(candidate));
    }
    BEBR_INLINE static Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }

    BEBR_INLINE static void store(float* lanes, Floats scores) { _mm512_store_ps(lanes, scores); }
    BEBR_INLINE static void store(std::int32_t* lanes, Sums sums) { _mm512_store_si512(lanes, sums); }
    BEBR_INLINE static Floats load(const float* lanes) { return _mm512_load_ps(lanes); }
    BEBR_INLINE static Sums load(const std::int32_t* lanes) { return _mm512_load_si512(lanes); }
    BEBR_INLINE static std::uint32_t within(Floats scores, float bound) {
        return _mm512_cmp_ps_mask(scores, _mm512_set1_ps(bound), _CMP_GE_OQ);
    }
    BEBR_INLINE static std::uint32_t within(Sums distances, std::int32_t bound) {
        return _mm512_cmple_epi32_mask(distances, _mm512_set1_epi32(bound));
    }
    BEBR_INLINE static Words exclusive(Words a, Words b) { return _mm512_xor_si512(a, b); }
    BEBR_INLINE static std::uint64_t reduce(Words a) {
        return static_cast<std::uint64_t>(_mm512_reduce_add_epi64(a));
    }
};

}  // namespace

constinit const Kernels avx512_kernels = make_kernels<Avx512>("avx512");

}  // namespace bebr
