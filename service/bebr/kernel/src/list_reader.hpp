// The generations of lists that parts have, and how far each query has read them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "list_best.hpp"
#include "list_order.hpp"
#include "list_range.hpp"
#include "lists.hpp"
#include "queries.hpp"

namespace bebr {

// The parts of one generation.
struct Generation {
    const CentroidTable* table;
    std::size_t first_list;          // its number among the lists of all generations
    std::vector<std::size_t> parts;  // positions
};

// Generations in ascending order.
inline std::vector<Generation> generations_of(std::span<const ListedPart> parts) {
    std::vector<Generation> found;
    for (std::size_t p = 0; p < parts.size(); ++p) {
        if (!parts[p].table) continue;
        const auto known = std::find_if(found.begin(), found.end(),
                                        [&](const Generation& one) { return one.table == parts[p].table; });
        if (known == found.end())
            found.push_back({parts[p].table, 0, {p}});
        else
            known->parts.push_back(p);
    }
    std::stable_sort(found.begin(), found.end(), [](const Generation& a, const Generation& b) {
        return a.table->generation() < b.table->generation();
    });
    std::size_t lists = 0;
    for (Generation& one : found) {
        one.first_list = lists;
        lists += one.table->lists();
    }
    return found;
}

// One query, and how far it has read.
struct Reader {
    Reader(const Layout& layout, const DotQueries& queries, std::uint32_t member, std::size_t k, std::size_t stop_at,
           float floor)
        : best(k, stop_at, floor), packed(layout, queries, {&member, 1}) {}

    ListBest best;
    PackedDotTile packed;
    ListOrder order;
    std::vector<bool> seen;  // lists
    std::int64_t lists = 0, rows = 0;
    bool done = false;

    // Lists that were chosen before the query knows whether it needs them all, and what was found there.
    struct Chosen {
        std::size_t number;
        float score;
        std::int64_t rows;
    };
    std::vector<Chosen> chosen;
    std::vector<ListHit> hits;
};

}  // namespace bebr
