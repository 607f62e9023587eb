#include "candidates.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <tuple>

#include "tiles.hpp"

namespace bebr {
namespace {

struct Entry {
    std::uint32_t key;  // see topk.hpp: the smallest is the best
    std::uint32_t place;
    std::uint32_t row;

    bool operator<(const Entry& other) const {
        return std::tie(key, place, row) < std::tie(other.key, other.place, other.row);
    }
};

// The best rows of one query, of the parts that were scanned so far.
template <class Order>
class Best {
public:
    using Score = typename Order::Score;

    Best(std::size_t k, Score bound) : bound_(bound), k_(k) {}

    // What the next part must have: scores that tie with the k-th best are wanted, too.
    Score bound() const { return bound_; }

    void add(TopK<Order>& found, std::uint32_t place) {
        found.each([&](std::uint32_t key, std::uint32_t row) { entries_.push_back({key, place, row}); });
        if (entries_.size() < k_) return;
        const auto kth = entries_.begin() + (k_ - 1);
        std::nth_element(entries_.begin(), kth, entries_.end());
        const std::uint32_t worst = kth->key;
        entries_.erase(std::partition(kth + 1, entries_.end(), [worst](const Entry& e) { return e.key == worst; }),
                       entries_.end());
        bound_ = Order::score(worst);
    }

    void write(Candidates& found) {
        std::sort(entries_.begin(), entries_.end());
        for (const Entry& entry : entries_) {
            const auto score = static_cast<double>(Order::score(entry.key));
            found.scores.push_back(Order::kHigherIsBetter ? score : -score);
            found.places.push_back(static_cast<std::int32_t>(entry.place));
            found.rows.push_back(entry.row);
        }
        found.starts.push_back(static_cast<std::int64_t>(found.scores.size()));
    }

private:
    Score bound_;
    std::size_t k_;
    std::vector<Entry> entries_;
};

// Queries with the same mask stand next to each other, so that a tile can skip what none of its queries wants.
template <class Score>
std::vector<std::uint32_t> order_by_mask_number(const WantedOfParts<Score>& wanted) {
    std::vector<std::uint32_t> order(wanted.queries);
    std::iota(order.begin(), order.end(), 0u);
    if (wanted.mask_of_query)
        std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
            return wanted.mask_of_query[a] < wanted.mask_of_query[b];
        });
    return order;
}

// pack(members) makes a tile of queries ready; call(packed, size) is the kernel for it, run over groups of a part.
template <class Order, class Pack, class Call>
Candidates find(std::span<const Part> parts, const WantedOfParts<typename Order::Score>& wanted, int max_tile,
                const Pack& pack, const Call& call) {
    using Score = typename Order::Score;
    std::vector<Best<Order>> best;
    best.reserve(wanted.queries);
    for (std::size_t q = 0; q < wanted.queries; ++q)
        best.emplace_back(wanted.k, wanted.bounds ? wanted.bounds[q] : Order::kNothing);

    const std::vector<std::uint32_t> order = order_by_mask_number(wanted);
    const auto cuts = cut(order, max_tile);
    std::vector<decltype(pack(cuts[0]))> packed;
    for (const auto members : cuts) packed.push_back(pack(members));
    std::vector<const std::uint16_t*> masks(wanted.queries);
    std::vector<Score> bounds(wanted.queries);
    Lists lists;
    for (std::size_t p = 0; p < parts.size(); ++p) {
        const Part& part = parts[p];
        part.mapped.require_all();
        for (std::size_t q = 0; q < wanted.queries; ++q) {
            const std::int32_t mask = wanted.mask_of_query ? wanted.mask_of_query[q] : wanted.masks.empty() ? -1 : 0;
            masks[q] = mask < 0 ? part.live : wanted.masks[mask][p];
            bounds[q] = best[q].bound();
        }
        const Wanted<Score> of_part{wanted.queries, std::min(wanted.k, part.rows.count), masks.data(), bounds.data()};
        std::vector<Tile<Order>> tiles;
        tiles.reserve(cuts.size());
        for (const auto members : cuts) tiles.emplace_back(members, of_part, !part.ordered);
        scan(*part.layout, part.rows, tiles, lists,
             [&](std::size_t t, const Groups& groups, std::span<const std::uint32_t> list) {
                 call(*part.layout, packed[t], groups, list, tiles[t]);
             });
        for (Tile<Order>& tile : tiles)
            for (std::size_t q = 0; q < tile.members.size(); ++q) best[tile.members[q]].add(tile.best[q], part.place);
    }
    Candidates found;
    found.starts.push_back(0);
    for (Best<Order>& one : best) one.write(found);
    return found;
}

}  // namespace

std::vector<std::size_t> best_positions(const double* scores, std::size_t count, std::size_t limit) {
    struct Scored {
        double score;
        std::size_t position;
        bool operator<(const Scored& other) const {
            return score != other.score ? score > other.score : position < other.position;
        }
    };
    std::vector<Scored> scored(count);
    for (std::size_t i = 0; i < count; ++i)  // what is no number comes last
        scored[i] = {scores[i] == scores[i] ? scores[i] : -std::numeric_limits<double>::infinity(), i};
    std::sort(scored.begin(), scored.end());
    std::size_t end = std::min(limit, count);
    while (end > 0 && end < count && scored[end].score == scored[end - 1].score) ++end;
    std::vector<std::size_t> positions;
    for (std::size_t i = 0; i < end; ++i) positions.push_back(scored[i].position);
    return positions;
}

Candidates dot_candidates(const Kernels& kernels, std::span<const Part> parts, const DotQueries& queries,
                          const WantedOfParts<float>& wanted) {
    const auto pack = [&](std::span<const std::uint32_t> members) {
        return PackedDotTile(*parts[0].layout, queries, members);
    };
    const auto call = [&](const Layout& layout, const PackedDotTile& packed, const Groups& groups,
                          std::span<const std::uint32_t> list, Tile<HighestScore>& tile) {
        kernels.dot[tile.members.size()](layout.view(), packed.view(), groups, list.data(), list.size(), tile);
    };
    return find<HighestScore>(parts, wanted, kernels.dot_tile, pack, call);
}

Candidates hamming_candidates(const Kernels& kernels, std::span<const Part> parts, const std::uint8_t* query_codes,
                              const WantedOfParts<std::int32_t>& wanted) {
    const auto pack = [&](std::span<const std::uint32_t> members) {
        return PackedHammingTile(*parts[0].layout, query_codes, members);
    };
    const auto call = [&](const Layout& layout, const PackedHammingTile& packed, const Groups& groups,
                          std::span<const std::uint32_t> list, Tile<LowestDistance>& tile) {
        kernels.hamming[tile.members.size()](layout.view(), packed.view(), groups, list.data(), list.size(), tile);
    };
    return find<LowestDistance>(parts, wanted, kernels.hamming_tile, pack, call);
}

}  // namespace bebr
