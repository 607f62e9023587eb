// Search by lists: the centroids of lists are scored first, and lists are read, best first, until no other one is likely
// to hold a hit. The rule is that of bebr.core.lists.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "candidates.hpp"
#include "centroids.hpp"

namespace bebr {

// A part, and the lists of its rows: list l has the rows begin[l] .. begin[l + 1]. Without a table it is in no list.
struct ListedPart {
    Part part;
    const CentroidTable* table;
    const std::uint32_t* begin;
};

// Of every query, see bebr.kernel.lists.
struct ListWanted {
    const float* deltas;
    const std::int32_t* stop_at;
    const std::int64_t* flat_rows;
};

// What was read for every query.
struct ListsRead {
    std::vector<std::int64_t> lists;
    std::vector<std::int64_t> rows;
};

// All parts have the same layout. Parts without lists are scanned whole, and first.
Candidates list_candidates(const Kernels& kernels, std::span<const ListedPart> parts, const DotQueries& queries,
                           const WantedOfParts<float>& wanted, const ListWanted& rule, ListsRead& read);

}  // namespace bebr
