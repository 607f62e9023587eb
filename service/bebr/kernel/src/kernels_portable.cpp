// Every other machine: vectors of 16 bytes as GCC and Clang offer them in plain C++, which become SSE2, NEON or
// whatever there is. A group is four vectors of 4 rows.
#include <cstring>

#include "kernel_table.hpp"

namespace bebr {
namespace {

struct Portable {
    using Words [[gnu::vector_size(16)]] = std::uint32_t;   // one word of 4 rows: as bytes, four levels of each
    using Sums [[gnu::vector_size(16)]] = std::int32_t;     // one per row
    using Partial [[gnu::vector_size(16)]] = std::int16_t;  // two per row
    using Counts = Words;                                   // four bytes per row
    using Floats [[gnu::vector_size(16)]] = float;

    static constexpr int kVectors = 4;  // vectors per group
    static constexpr int kDotTile = 2;
    static constexpr int kHammingTile = 2;
    static constexpr int kCentroidTile = 1;
    template <int Q>
    static constexpr int kDotGroups = 1;
    template <int Q>
    static constexpr int kHammingGroups = 1;
    template <int Q>
    static constexpr int kCentroidGroups = 1;
    // Each field of a word adds two products of at most max_level * 128 to an int16; this many words cannot overflow it.
    template <int Bits>
    static constexpr std::uint32_t kWordsPerPartial = 32767 / (2 * 128 * ((1 << Bits) - 1)) / (8 / Bits);
    // A byte counts at most 8 bits of each sign word.
    static constexpr std::uint32_t kSignWordsPerCount = 255 / 8;
    static constexpr bool kFieldsInPlace = false;

    template <class To, class From>
    BEBR_INLINE static To reinterpret(const From& from) {
        To to;
        static_assert(sizeof to == sizeof from);
        std::memcpy(&to, &from, sizeof to);
        return to;
    }

    BEBR_INLINE static Words load(const std::uint32_t* words, int part) {
        Words loaded;
        std::memcpy(&loaded, words + 4 * part, sizeof loaded);
        return loaded;
    }
    BEBR_INLINE static Words broadcast(std::int32_t value) { return Words{} + static_cast<std::uint32_t>(value); }
    BEBR_INLINE static Sums no_sum() { return Sums{}; }
    BEBR_INLINE static Sums add(Sums a, Sums b) { return a + b; }

    // Products of bytes are made in 16 bits, the even and the odd bytes of each word apart.
    template <int Bits>
    BEBR_INLINE static Words levels(Words words, int field) {
        return words >> (Bits * field) & ((1u << Bits) - 1) * 0x01010101u;
    }
    BEBR_INLINE static Partial no_partial() { return Partial{}; }
    BEBR_INLINE static Partial dot(Partial sum, Words levels, Words value) {
        const auto signed_bytes = reinterpret<Partial>(value);
        const Partial even = reinterpret<Partial>(levels & 0x00ff00ffu) * ((signed_bytes << 8) >> 8);
        const Partial odd = reinterpret<Partial>(levels >> 8 & 0x00ff00ffu) * (signed_bytes >> 8);
        return sum + even + odd;
    }
    BEBR_INLINE static Sums widen(Sums sum, Partial partial) {
        const auto pairs = reinterpret<Sums>(partial);
        return sum + ((pairs << 16) >> 16) + (pairs >> 16);
    }

    BEBR_INLINE static Words both(Words a, Words b) { return a & b; }
    BEBR_INLINE static Words either(Words a, Words b) { return a | b; }
    BEBR_INLINE static Words exclusive(Words a, Words b) { return a ^ b; }
    BEBR_INLINE static Words shift_right(Words a, int bits) { return a >> bits; }
    BEBR_INLINE static Counts no_count() { return Counts{}; }
    BEBR_INLINE static Counts count_differing(Counts count, Words a, Words b) {
        // Sums of neighbouring bits, pairs and halves of a byte; no machine-wide popcount of vectors exists.
        Words x = a ^ b;
        x -= x >> 1 & 0x55555555u;
        x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
        return count + ((x + (x >> 4)) & 0x0f0f0f0fu);
    }
    BEBR_INLINE static Sums widen_counts(Sums sum, Counts count) {
        const Words pairs = (count & 0x00ff00ffu) + (count >> 8 & 0x00ff00ffu);
        return sum + reinterpret<Sums>((pairs & 0xffffu) + (pairs >> 16));
    }

    BEBR_INLINE static Floats no_score() { return Floats{}; }
    BEBR_INLINE static Floats add_scaled(Floats score, Sums sum, std::int32_t offset, float scale) {
        return score + scale * __builtin_convertvector(2 * sum + offset, Floats);
    }
    BEBR_INLINE static Floats add_weighted(Floats score, Sums sum, std::int32_t offset, float scale, Floats scales) {
        return score + (scale * scales) * __builtin_convertvector(sum + offset, Floats);
    }
    BEBR_INLINE static void keep_best(Floats& best, Sums& number, Floats score, std::int32_t candidate) {
        const Sums better = score > best;
        best = reinterpret<Floats>((reinterpret<Sums>(score) & better) | (reinterpret<Sums>(best) & ~better));
        number = (candidate & better) | (number & ~better);
    }
    BEBR_INLINE static Floats multiply(Floats a, Floats b) { return a * b; }
    // Exact for every half, subnormal and infinite ones included.
    BEBR_INLINE static Floats load_gains(const std::uint16_t* gains, int part) {
        const std::uint16_t* half = gains + 4 * part;
        const Words halves = {half[0], half[1], half[2], half[3]};
        const Words magnitude = halves & 0x7fffu;
        // Moved to where a float keeps them, exponent and fraction mean a number 2^112 too small. The product with that
        // power of two is exact, and makes normal floats of subnormal halves.
        const auto scaled = reinterpret<Words>(reinterpret<Floats>(magnitude << 13) * 0x1p112f);
        const auto special = reinterpret<Words>(magnitude >= 0x7c00u) & 0x7f800000u;  // infinity and NaN
        return reinterpret<Floats>(scaled | special | (halves & 0x8000u) << 16);
    }

    BEBR_INLINE static void store(float* lanes, Floats scores) { std::memcpy(lanes, &scores, sizeof scores); }
    BEBR_INLINE static void store(std::int32_t* lanes, Sums sums) { std::memcpy(lanes, &sums, sizeof sums); }
    BEBR_INLINE static Floats load(const float* lanes) {
        Floats scores;
        std::memcpy(&scores, lanes, sizeof scores);
        return scores;
    }
    BEBR_INLINE static Sums load(const std::int32_t* lanes) {
        Sums sums;
        std::memcpy(&sums, lanes, sizeof sums);
        return sums;
    }
    BEBR_INLINE static std::uint32_t within(Floats scores, float bound) { return bits(scores >= bound); }
    BEBR_INLINE static std::uint32_t within(Sums distances, std::int32_t bound) { return bits(distances <= bound); }

    // One bit per lane of a comparison.
    BEBR_INLINE static std::uint32_t bits(Sums mask) {
        const Sums weighted = mask & Sums{1, 2, 4, 8};
        return static_cast<std::uint32_t>(weighted[0] | weighted[1] | weighted[2] | weighted[3]);
    }
    BEBR_INLINE static std::uint64_t reduce(Words a) { return std::uint64_t{a[0]} + a[1] + a[2] + a[3]; }
};

}  // namespace

constinit const Kernels portable_kernels = make_kernels<Portable>("portable");

}  // namespace bebr
