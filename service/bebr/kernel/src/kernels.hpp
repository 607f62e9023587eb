// The border between the scan (ordinary C++) and the kernels (one file per instruction set).
//
// Only plain data stands here: this header is compiled with the flags of every instruction set, and any function body
// in it could end up in the program once, with the widest of them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "block.hpp"

namespace bebr {

constexpr std::size_t kLevelStep = 16;        // bytes of levels that are read at a time
constexpr std::size_t kProductsPerSum = 256;  // of a level and a value of 16 bits: as many fit an int32
constexpr int kMaxTile = 12;  // queries that one kernel call may score together

// Groups of blocked codes, with their gains (float16 bits, 16 per group; null for hamming). `ahead`, unless null, has the
// groups that are scanned a while after each of those listed, wherever they lie: memory is asked for them in time.
struct Groups {
    const std::uint32_t* words;
    const std::uint16_t* gains;
    const std::uint32_t* const* ahead = nullptr;
};

// Where a kernel hands over the rows that may be among the best. `bounds[q]` is what query q still asks for: a score of
// at least, or a distance of at most, this much. `live`, unless null, has one bit for each row that any of the queries
// wants, a word per group. `offer` receives the 16 scores of one group and the lanes that are live and within the bound;
// it may tighten `bounds[q]`.
template <class Score>
struct Sink {
    alignas(64) Score bounds[kMaxTile];
    const std::uint16_t* live;
    void (*offer)(Sink& sink, int query, std::uint32_t group, std::uint32_t lanes, const Score* scores);
};

// Up to kMaxTile queries of sdc or adc, in the order in which the kernel reads them.
struct DotTile {
    const std::int32_t* values;   // [word][field][query]: the four query values that meet one field of one word
    const std::int32_t* offsets;  // [block][query]: -max_level * sum of the block's query values
    const float* scales;          // [block][query]
};

// Up to kMaxTile queries of hamming. The sign bits of `bits` words of a block fit into one, which is a sign word.
struct HammingTile {
    const std::uint32_t* masks;   // [word]: the top bit of every level
    const std::uint32_t* values;  // [sign word][query]
};

// Centroids of lists: 16 of them form a group, in which the words of four values + 128 are interleaved as those of codes.
struct CentroidGroups {
    const std::uint32_t* words;   // [group][word][16], aligned to 64 bytes
    const float* scales;          // [group][block][16], aligned to 64 bytes
    const std::uint32_t* block_words;
    std::uint32_t blocks;
    std::uint32_t group_words;  // of all blocks
    std::size_t groups;
};

using DotKernel = void (*)(const Blocks&, const DotTile&, const Groups&, const std::uint32_t* list, std::size_t count,
                           Sink<float>&);
using HammingKernel = void (*)(const Blocks&, const HammingTile&, const Groups&, const std::uint32_t* list,
                               std::size_t count, Sink<std::int32_t>&);

// Of each row of the groups, the best score so far and the number of its query: [group][16]. The queries of the tile, which
// is full, have the numbers from `first` on.
using AssignKernel = void (*)(const Blocks&, const DotTile&, const std::uint32_t* words, std::size_t groups,
                              std::int32_t first, float* best, std::int32_t* numbers);

// Scores of each query of the tile: [query] -> [group][16]. The offsets of the tile are -128 * sum of a block's values.
using CentroidKernel = void (*)(const CentroidGroups&, const DotTile&, float* const* scores);

// The kernels of one instruction set, by number of queries: dot[1] .. dot[dot_tile].
struct Kernels {
    const char* name;
    int dot_tile;
    int hamming_tile;
    DotKernel dot[kMaxTile + 1];
    HammingKernel hamming[kMaxTile + 1];
    AssignKernel assign;
    int centroid_tile;
    CentroidKernel centroids[kMaxTile + 1];
    // rows (count, size) times matrix (size, dims). Each sum is made in ascending order of its terms, whatever the
    // instruction set, and whichever other rows there are.
    void (*project)(const float* rows, std::size_t count, const float* matrix, std::size_t size, std::size_t dims,
                    float* projected);
    // See rescore_tile.hpp.
    void (*column_products)(const std::int16_t* values, const std::int16_t* columns, std::size_t count,
                            std::size_t size, std::int32_t* sums);
    std::int32_t (*level_products)(const std::uint8_t* bytes, std::size_t count, std::uint32_t shift, std::int16_t mask,
                                   const std::int16_t* values);
    std::uint64_t (*checksum)(const std::uint8_t* bytes, std::size_t size);  // reads as fast as it can
};

extern const Kernels portable_kernels;
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;

}  // namespace bebr
