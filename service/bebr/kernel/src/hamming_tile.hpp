// The hamming kernel, written once for every instruction set (`Simd`, see kernels_*.cpp).
//
// Only the top bit of each level counts. In a block of B bits these are 32 / B bits of every word, so the sign bits of
// B words are first merged into one sign word (once for all Q queries), and each query then pays one xor and popcount
// per sign word.
#pragma once

#include "kernels.hpp"
#include "tile.hpp"

namespace bebr {

// Merges the sign bits of up to `Bits` words; `masks` selects them. Moves `words` and `ahead` past these words.
template <class Simd, int Bits, int G>
BEBR_INLINE void merge_signs(std::uint32_t count, const std::uint32_t* masks, Cursor<G>& words, Cursor<G>& ahead,
                             typename Simd::Words (&signs)[G * Simd::kVectors]) {
    BEBR_EACH(i, Bits) {
        if (i > 0 && static_cast<std::uint32_t>(i) >= count) break;
        const auto mask = Simd::broadcast(static_cast<std::int32_t>(masks[i]));
        BEBR_EACH(v, G * Simd::kVectors) {
            const auto loaded = Simd::load(words.at[v / Simd::kVectors], v % Simd::kVectors);
            const auto bits = Simd::shift_right(Simd::both(loaded, mask), i);
            signs[v] = i == 0 ? bits : Simd::either(signs[v], bits);
        }
        BEBR_EACH(g, G) prefetch(ahead.at[g]);
        advance(words, 1);
        advance(ahead, 1);
    }
}

// Adds the distances of one block to `distances`; `words` and `ahead` stand at its first word.
template <class Simd, int Bits, int Q, int G>
BEBR_INLINE void count_block(std::uint32_t words_in_block, const std::uint32_t* masks, const std::uint32_t* values,
                             Cursor<G> words, Cursor<G> ahead,
                             typename Simd::Sums (&distances)[Q][G * Simd::kVectors]) {
    constexpr int kVectors = G * Simd::kVectors;
    constexpr std::uint32_t kStep = Simd::kSignWordsPerCount * Bits;
    typename Simd::Sums total[Q][kVectors];
    BEBR_EACH(q, Q) BEBR_EACH(v, kVectors) total[q][v] = Simd::no_sum();
    for (std::uint32_t first = 0; first < words_in_block; first += kStep) {
        const std::uint32_t end = words_in_block - first < kStep ? words_in_block : first + kStep;
        typename Simd::Counts counts[Q][kVectors];
        BEBR_EACH(q, Q) BEBR_EACH(v, kVectors) counts[q][v] = Simd::no_count();
        _Pragma("GCC unroll 2")  // the counts of two words overlap better
        for (std::uint32_t word = first; word < end; word += Bits) {
            typename Simd::Words signs[kVectors];
            merge_signs<Simd, Bits, G>(end - word, masks + word, words, ahead, signs);
            BEBR_EACH(q, Q) {
                const auto value = Simd::broadcast(static_cast<std::int32_t>(values[q]));
                BEBR_EACH(v, kVectors) counts[q][v] = Simd::count_differing(counts[q][v], signs[v], value);
            }
            values += Q;
        }
        BEBR_EACH(q, Q) BEBR_EACH(v, kVectors) total[q][v] = Simd::widen_counts(total[q][v], counts[q][v]);
    }
    BEBR_EACH(q, Q) BEBR_EACH(v, kVectors) distances[q][v] = Simd::add(distances[q][v], total[q][v]);
}

// One query alone waits for memory, and a call per block would show. Many queries wait for registers: compilers keep all
// counts there only when nothing else is in the function.
template <class Simd, int Bits, int Q, int G>
[[gnu::noinline]] void count_block_apart(std::uint32_t words_in_block, const std::uint32_t* masks,
                                         const std::uint32_t* values, const Cursor<G>& words, const Cursor<G>& ahead,
                                         typename Simd::Sums (&distances)[Q][G * Simd::kVectors]) {
    count_block<Simd, Bits, Q, G>(words_in_block, masks, values, words, ahead, distances);
}

template <class Simd, int Bits, int Q, int G>
BEBR_INLINE void count_block_best(std::uint32_t words_in_block, const std::uint32_t* masks,
                                  const std::uint32_t* values, const Cursor<G>& words, const Cursor<G>& ahead,
                                  typename Simd::Sums (&distances)[Q][G * Simd::kVectors]) {
    if constexpr (Q == 1)
        count_block<Simd, Bits, Q, G>(words_in_block, masks, values, words, ahead, distances);
    else
        count_block_apart<Simd, Bits, Q, G>(words_in_block, masks, values, words, ahead, distances);
}

// Measures Q queries against the G groups list[0..G) and offers what is within the bounds.
template <class Simd, int Q, int G>
BEBR_INLINE void measure_groups(const Blocks& layout, const HammingTile& tile, const Groups& groups,
                                const std::uint32_t* list, const std::uint32_t* list_ahead,
                                Sink<std::int32_t>& sink) {
    constexpr int kVectors = G * Simd::kVectors;
    Cursor<G> words = cursor<G>(layout, groups, list), ahead = cursor<G>(layout, groups, list_ahead);
    const std::uint32_t* masks = tile.masks;
    const std::uint32_t* values = tile.values;
    typename Simd::Sums distances[Q][kVectors];
    BEBR_EACH(q, Q) BEBR_EACH(v, kVectors) distances[q][v] = Simd::no_sum();
    for (std::uint32_t b = 0; b < layout.count; ++b) {
        const Block& block = layout.blocks[b];
        switch (block.bits) {
            case 4: count_block_best<Simd, 4, Q, G>(block.words, masks, values, words, ahead, distances); break;
            case 2: count_block_best<Simd, 2, Q, G>(block.words, masks, values, words, ahead, distances); break;
            default: count_block_best<Simd, 1, Q, G>(block.words, masks, values, words, ahead, distances); break;
        }
        masks += block.words;
        values += (block.words + block.bits - 1) / block.bits * Q;
        advance(words, block.words);
        advance(ahead, block.words);
    }
    offer_hits<Simd, Q, G>(distances, list, sink);
}

template <class Simd, int Q>
void hamming(const Blocks& layout, const HammingTile& tile, const Groups& groups, const std::uint32_t* list,
             std::size_t count, Sink<std::int32_t>& sink) {
    constexpr int G = Simd::template kHammingGroups<Q>;
    for_groups<G>(layout, list, count, [&]<int N>(const std::uint32_t* now, const std::uint32_t* ahead,
                                                  std::size_t) BEBR_LAMBDA {
        measure_groups<Simd, Q, N>(layout, tile, groups, now, ahead, sink);
    });
}

}  // namespace bebr
