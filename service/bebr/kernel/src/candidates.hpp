// The best rows of several parts together. Rows that tie are ordered by what the caller knows of them, so all that tie
// with the last one wanted are found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "pieces.hpp"
#include "scan.hpp"

namespace bebr {

// Rows of one layout that lie together. Where `ordered`, of equal scores those of lower rows come first.
struct Part {
    const Layout* layout;
    Rows rows;
    const std::uint16_t* live;  // one bit per row, or null: all are wanted
    std::uint32_t place;        // what it is called in the results
    bool ordered;
    MappedRows mapped{};  // where the rows lie in a mapped file: they must be checked before they are scanned
};

// What every query of a batch asks for: the k best rows of all parts. masks[mask_of_query[q]][p] takes the place of what
// is live in parts[p]; a negative mask_of_query, or no masks: what is live.
template <class Score>
struct WantedOfParts {
    std::size_t queries;
    std::size_t k;
    std::vector<std::vector<const std::uint16_t*>> masks;
    const std::int32_t* mask_of_query;
    const Score* bounds;  // floors or ceilings, one per query, or null: none
};

// Query q has the entries starts[q] .. starts[q + 1], best first, then by place and row. A distance counts as a score of
// minus as much.
struct Candidates {
    std::vector<double> scores;
    std::vector<std::int32_t> places;
    std::vector<std::int64_t> rows;
    std::vector<std::int64_t> starts;
};

// The positions of the `limit` highest scores, highest first, then by position, and of all that tie with the last.
std::vector<std::size_t> best_positions(const double* scores, std::size_t count, std::size_t limit);

// All parts have the same layout.
Candidates dot_candidates(const Kernels& kernels, std::span<const Part> parts, const DotQueries& queries,
                          const WantedOfParts<float>& wanted);

Candidates hamming_candidates(const Kernels& kernels, std::span<const Part> parts, const std::uint8_t* query_codes,
                              const WantedOfParts<std::int32_t>& wanted);

}  // namespace bebr
