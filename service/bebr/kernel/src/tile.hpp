// What the two kernels share. Everything here is inlined by force: this header is compiled with the flags of every
// instruction set, and the linker must find nothing to merge.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.hpp"

#define BEBR_INLINE [[gnu::always_inline]] inline
#define BEBR_LAMBDA __attribute__((always_inline))
// A loop that is unrolled, so that arrays indexed by it become registers.
#define BEBR_EACH(i, n) _Pragma("GCC unroll 16") for (int i = 0; i < (n); ++i)

namespace bebr {

// How far ahead a scan asks for memory. The hardware would guess as much within one group, but not from group to group.
constexpr std::size_t kPrefetchBytes = 8192;

// A place in each of G groups.
template <int G>
struct Cursor {
    const std::uint32_t* at[G];
};

template <int G>
BEBR_INLINE Cursor<G> cursor(const Blocks& layout, const Groups& groups, const std::uint32_t* list) {
    Cursor<G> start;
    BEBR_EACH(g, G) start.at[g] = groups.words + list[g] * (layout.words * kGroupRows);
    return start;
}

// The groups whose memory is asked for while the G groups from number `i` of the list on are scanned.
template <int G>
BEBR_INLINE Cursor<G> cursor_ahead(const Blocks& layout, const Groups& groups, const std::uint32_t* list_ahead,
                                   std::size_t i) {
    if (!groups.ahead) return cursor<G>(layout, groups, list_ahead);
    Cursor<G> start;
    BEBR_EACH(g, G) start.at[g] = groups.ahead[i + g];
    return start;
}

template <int G>
BEBR_INLINE void advance(Cursor<G>& cursor, std::uint32_t words) {
    BEBR_EACH(g, G) cursor.at[g] += words * kGroupRows;
}

// Into the L2 cache: there is room for more requests on their way than in the L1 cache.
BEBR_INLINE void prefetch(const std::uint32_t* words) { __builtin_prefetch(words, 0, 2); }

// The lanes of a group that some query wants.
template <class Score>
BEBR_INLINE std::uint32_t live_lanes(const Sink<Score>& sink, std::uint32_t group) {
    return sink.live ? sink.live[group] : 0xffffu;
}

// Offers what is within the bounds of Q queries among the scores of G groups. Few groups hold anything, so that one
// branch per call is all that most of them cost.
template <class Simd, int Q, int G, class Vector, class Score>
BEBR_INLINE void offer_hits(const Vector (&scores)[Q][G * Simd::kVectors], const std::uint32_t* list,
                            Sink<Score>& sink) {
    constexpr int kLanes = kGroupRows / Simd::kVectors;
    std::uint32_t any = 0;
    BEBR_EACH(v, G * Simd::kVectors) {
        std::uint32_t hits = 0;
        BEBR_EACH(q, Q) hits |= Simd::within(scores[q][v], sink.bounds[q]);
        any |= hits << (v % Simd::kVectors * kLanes) & live_lanes(sink, list[v / Simd::kVectors]);
    }
    if (!any) [[likely]] return;

    alignas(64) Score lanes[Q][G * kGroupRows];
    BEBR_EACH(q, Q) BEBR_EACH(v, G * Simd::kVectors) Simd::store(lanes[q] + v * kLanes, scores[q][v]);
    for (int g = 0; g < G; ++g) {
        const std::uint32_t live = live_lanes(sink, list[g]);
        for (int q = 0; q < Q; ++q) {
            std::uint32_t hits = 0;
            BEBR_EACH(part, Simd::kVectors) {
                const auto part_scores = Simd::load(lanes[q] + g * kGroupRows + part * kLanes);
                hits |= Simd::within(part_scores, sink.bounds[q]) << (part * kLanes);
            }
            if (hits & live) sink.offer(sink, q, list[g], hits & live, lanes[q] + g * kGroupRows);
        }
    }
}

// Calls run<N>(list + i, the N entries that come kPrefetchBytes later, i) for N = G groups at a time, at the end for one.
template <int G, class Run>
BEBR_INLINE void for_groups(const Blocks& layout, const std::uint32_t* list, std::size_t count, const Run& run) {
    const std::size_t group_bytes = layout.words * kGroupRows * sizeof(std::uint32_t);
    const std::size_t distance = (kPrefetchBytes / group_bytes + G) / G * G;
    std::size_t i = 0;
    for (; i + G <= count; i += G) {
        const std::size_t ahead = i + distance + G <= count ? i + distance : i;
        run.template operator()<G>(list + i, list + ahead, i);
    }
    if constexpr (G > 1) {
        for (; i < count; ++i) run.template operator()<1>(list + i, list + i, i);
    }
}

}  // namespace bebr
