// AVX2: a group is two vectors of 8 rows; products are summed in int16 first, counts in bytes.
#include <immintrin.h>

#include "kernel_table.hpp"

namespace bebr {
namespace {

struct Avx2 {
    using Words = __m256i;    // one word of 8 rows: as bytes, four levels of each
    using Sums = __m256i;     // int32, one per row
    using Partial = __m256i;  // int16, two per row
    using Counts = __m256i;   // bytes, four per row
    using Floats = __m256;

    static constexpr int kVectors = 2;  // vectors per group
    static constexpr int kDotTile = 3;  // with more, sums no longer fit into 16 registers
    static constexpr int kHammingTile = 4;
    static constexpr int kCentroidTile = 2;
    template <int Q>
    static constexpr int kDotGroups = 1;
    template <int Q>
    static constexpr int kHammingGroups = 1;
    template <int Q>
    static constexpr int kCentroidGroups = 1;
    // vpmaddubsw adds two products of at most max_level * 128 in int16; this many words cannot overflow it.
    template <int Bits>
    static constexpr std::uint32_t kWordsPerPartial = 32767 / (2 * 128 * ((1 << Bits) - 1)) / (8 / Bits);
    // A byte counts at most 8 bits of each sign word.
    static constexpr std::uint32_t kSignWordsPerCount = 255 / 8;
    static constexpr bool kFieldsInPlace = false;  // a level moved to the top of its byte would overflow int16

    BEBR_INLINE static Words load(const std::uint32_t* words, int part) {
        return _mm256_load_si256(reinterpret_cast<const __m256i*>(words) + part);
    }
    BEBR_INLINE static Words broadcast(std::int32_t value) { return _mm256_set1_epi32(value); }
    BEBR_INLINE static Partial no_partial() { return _mm256_setzero_si256(); }
    BEBR_INLINE static Sums no_sum() { return _mm256_setzero_si256(); }
    BEBR_INLINE static Sums add(Sums a, Sums b) { return _mm256_add_epi32(a, b); }

    template <int Bits>
    BEBR_INLINE static Words levels(Words words, int field) {
        const Words low = field == 0 ? words : _mm256_srli_epi16(words, Bits * field);
        return _mm256_and_si256(low, _mm256_set1_epi8((1 << Bits) - 1));
    }
    BEBR_INLINE static Partial dot(Partial sum, Words levels, Words value) {
        return _mm256_add_epi16(sum, _mm256_maddubs_epi16(levels, value));
    }
    BEBR_INLINE static Sums widen(Sums sum, Partial partial) {
        return _mm256_add_epi32(sum, _mm256_madd_epi16(partial, _mm256_set1_epi16(1)));
    }

    BEBR_INLINE static Words both(Words a, Words b) { return _mm256_and_si256(a, b); }
    BEBR_INLINE static Words either(Words a, Words b) { return _mm256_or_si256(a, b); }
    BEBR_INLINE static Words shift_right(Words a, int bits) { return bits == 0 ? a : _mm256_srli_epi32(a, bits); }
    BEBR_INLINE static Counts no_count() { return _mm256_setzero_si256(); }
    BEBR_INLINE static Counts count_differing(Counts count, Words a, Words b) {
        const __m256i low_half = _mm256_set1_epi8(15);
        const __m256i bits_of_half = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
                                                      0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
        const __m256i differing = _mm256_xor_si256(a, b);
        const __m256i low = _mm256_shuffle_epi8(bits_of_half, _mm256_and_si256(differing, low_half));
        const __m256i high =
            _mm256_shuffle_epi8(bits_of_half, _mm256_and_si256(_mm256_srli_epi16(differing, 4), low_half));
        return _mm256_add_epi8(count, _mm256_add_epi8(low, high));
    }
    BEBR_INLINE static Sums widen_counts(Sums sum, Counts count) {
        const __m256i pairs = _mm256_maddubs_epi16(count, _mm256_set1_epi8(1));
        return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }

    BEBR_INLINE static Floats no_score() { return _mm256_setzero_ps(); }
    BEBR_INLINE static Floats add_scaled(Floats score, Sums sum, std::int32_t offset, float scale) {
        const Sums exact = _mm256_add_epi32(_mm256_slli_epi32(sum, 1), _mm256_set1_epi32(offset));
        return _mm256_add_ps(score, _mm256_mul_ps(_mm256_set1_ps(scale), _mm256_cvtepi32_ps(exact)));
    }
    BEBR_INLINE static Floats load_gains(const std::uint16_t* gains, int part) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(gains) + part));
    }
    BEBR_INLINE static Floats add_weighted(Floats score, Sums sum, std::int32_t offset, float scale, Floats scales) {
        const Floats exact = _mm256_cvtepi32_ps(_mm256_add_epi32(sum, _mm256_set1_epi32(offset)));
        return _mm256_add_ps(score, _mm256_mul_ps(_mm256_mul_ps(_mm256_set1_ps(scale), scales), exact));
    }
    BEBR_INLINE static void keep_best(Floats& best, Sums& number, Floats score, std::int32_t candidate) {
        const Floats better = _mm256_cmp_ps(score, best, _CMP_GT_OQ);
        best = _mm256_blendv_ps(best, score, better);
        number = _mm256_blendv_epi8(number, _mm256_set1_epi32(candidate), _mm256_castps_si256(better));
    }
    BEBR_INLINE static Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }

    BEBR_INLINE static void store(float* lanes, Floats scores) { _mm256_store_ps(lanes, scores); }
    BEBR_INLINE static void store(std::int32_t* lanes, Sums sums) {
        _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sums);
    }
    BEBR_INLINE static Floats load(const float* lanes) { return _mm256_load_ps(lanes); }
    BEBR_INLINE static Sums load(const std::int32_t* lanes) {
        return _mm256_load_si256(reinterpret_cast<const __m256i*>(lanes));
    }
    BEBR_INLINE static std::uint32_t within(Floats scores, float bound) {
        return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(scores, _mm256_set1_ps(bound), _CMP_GE_OQ)));
    }
    BEBR_INLINE static std::uint32_t within(Sums distances, std::int32_t bound) {
        const __m256i beyond = _mm256_cmpgt_epi32(distances, _mm256_set1_epi32(bound));
        return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(beyond))) ^ 0xffu;
    }
    BEBR_INLINE static Words exclusive(Words a, Words b) { return _mm256_xor_si256(a, b); }
    BEBR_INLINE static std::uint64_t reduce(Words a) {
        return static_cast<std::uint64_t>(_mm256_extract_epi64(a, 0)) ^ _mm256_extract_epi64(a, 1) ^
               _mm256_extract_epi64(a, 2) ^ _mm256_extract_epi64(a, 3);
    }
};

}  // namespace

constinit const Kernels avx2_kernels = make_kernels<Avx2>("avx2");

}  // namespace bebr
