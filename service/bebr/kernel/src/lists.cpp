#include "lists.hpp"

#include <algorithm>

#include "list_best.hpp"
#include "list_range.hpp"

namespace bebr {
namespace {

// The parts of one generation.
struct Generation {
    const CentroidTable* table;
    std::size_t first_list;           // its number among the lists of all generations
    std::vector<std::size_t> parts;   // positions
};

// Generations in ascending order.
std::vector<Generation> generations_of(std::span<const ListedPart> parts) {
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

class ListSearch {
public:
    ListSearch(const Kernels& kernels, std::span<const ListedPart> parts, const DotQueries& queries,
               const WantedOfParts<float>& wanted, const ListWanted& rule, ListsRead& read)
        : kernels_(kernels), parts_(parts), queries_(queries), wanted_(wanted), rule_(rule), read_(read),
          generations_(generations_of(parts)), ranges_(kernels) {
        read_.lists.assign(wanted.queries, 0);
        read_.rows.assign(wanted.queries, 0);
        for (std::size_t q = 0; q < wanted.queries; ++q)
            best_.emplace_back(wanted.k, static_cast<std::size_t>(rule.stop_at[q]), floor_of(q));
        for (const ListedPart& part : parts) {
            rows_.emplace_back(part.part);
            any_mapped_ |= static_cast<bool>(part.part.mapped);
        }
    }

    Candidates run() {
        scan_unlisted();
        if (!generations_.empty()) {
            score_centroids();
            for (std::size_t q = 0; q < wanted_.queries; ++q) read_lists(q);
        }
        Candidates found;
        found.starts.push_back(0);
        for (ListBest& one : best_) one.write(found);
        return found;
    }

private:
    float floor_of(std::size_t q) const { return wanted_.bounds ? wanted_.bounds[q] : HighestScore::kNothing; }

    const std::uint16_t* mask_of(std::size_t q, std::size_t p) const {
        const std::int32_t mask = wanted_.mask_of_query ? wanted_.mask_of_query[q] : wanted_.masks.empty() ? -1 : 0;
        return mask < 0 ? parts_[p].part.live : wanted_.masks[mask][p];
    }

    // Parts without lists, for all queries.
    void scan_unlisted() {
        std::vector<Part> whole;
        WantedOfParts<float> asked{wanted_.queries, wanted_.k, {}, wanted_.mask_of_query, wanted_.bounds};
        asked.masks.resize(wanted_.masks.size());
        for (std::size_t p = 0; p < parts_.size(); ++p) {
            if (parts_[p].table) continue;
            whole.push_back(parts_[p].part);
            for (std::size_t m = 0; m < wanted_.masks.size(); ++m) asked.masks[m].push_back(wanted_.masks[m][p]);
            for (std::size_t q = 0; q < wanted_.queries; ++q)
                read_.rows[q] += static_cast<std::int64_t>(count_rows(mask_of(q, p), 0, parts_[p].part.rows.count));
        }
        if (whole.empty()) return;
        const Candidates found = dot_candidates(kernels_, whole, queries_, asked);
        for (std::size_t q = 0; q < wanted_.queries; ++q)
            for (auto i = static_cast<std::size_t>(found.starts[q]); i < static_cast<std::size_t>(found.starts[q + 1]); ++i)
                best_[q].push(static_cast<float>(found.scores[i]), static_cast<std::uint32_t>(found.places[i]),
                              static_cast<std::uint32_t>(found.rows[i]));
    }

    // The scores of all centroids, of one query after the other.
    void score_centroids() {
        std::size_t padded = 0;
        for (const Generation& one : generations_) padded += one.table->padded_lists();
        stride_ = padded;
        scores_.reset(new Allocation(allocate(wanted_.queries * padded * sizeof(float))));
        std::vector<float*> rows(wanted_.queries);
        std::size_t first = 0;
        for (const Generation& one : generations_) {
            for (std::size_t q = 0; q < wanted_.queries; ++q) rows[q] = scores_of(q) + first;
            one.table->score(kernels_, queries_, rows);
            first += one.table->padded_lists();
        }
    }

    float* scores_of(std::size_t q) const { return reinterpret_cast<float*>(scores_->bytes) + q * stride_; }

    ListOrder order_of(std::size_t q) const {
        ListOrder order;
        const float* scores = scores_of(q);
        for (const Generation& one : generations_) {
            order.add(scores, one.table->lists());
            scores += one.table->padded_lists();
        }
        return order;
    }

    const Generation& generation_of(std::size_t number) const {
        std::size_t g = generations_.size() - 1;
        while (generations_[g].first_list > number) --g;
        return generations_[g];
    }

    std::int64_t rows_of(std::size_t q, const Generation& generation, std::size_t list) const {
        std::size_t count = 0;
        for (const std::size_t p : generation.parts)
            count += count_rows(mask_of(q, p), parts_[p].begin[list], parts_[p].begin[list + 1]);
        return static_cast<std::int64_t>(count);
    }

    // Lists that will be read soon, so that they are read from the disk together.
    void advise(std::span<const std::uint64_t> entries) const {
        for (const std::uint64_t entry : entries) {
            const auto number = static_cast<std::uint32_t>(entry);
            const Generation& generation = generation_of(number);
            const std::size_t list = number - generation.first_list;
            for (const std::size_t p : generation.parts)
                parts_[p].part.mapped.advise(parts_[p].begin[list], parts_[p].begin[list + 1]);
        }
    }

    // Lists, best first, of one query.
    void read_lists(std::size_t q) {
        const auto member = static_cast<std::uint32_t>(q);
        const PackedDotTile packed(*parts_[0].part.layout, queries_, {&member, 1});
        std::vector<bool> seen(generations_.back().first_list + generations_.back().table->lists());
        std::int64_t rows = 0;
        for (ListOrder order = order_of(q); !order.empty(); order.pop()) {
            const bool is_new = order.must_sort();
            const std::size_t number = order.front();
            if (is_new && any_mapped_) advise(order.sorted());
            if (!best_[q].wants(order.score(), rule_.deltas[q])) break;
            const Generation& generation = generation_of(number);
            const std::size_t list = number - generation.first_list;
            const std::int64_t matching = rows_of(q, generation, list);
            if (matching == 0) continue;
            if (rows > rule_.flat_rows[q]) {
                rows += scan_others(q, packed, seen);
                break;
            }
            for (const std::size_t p : generation.parts)
                scan(q, packed, p, parts_[p].begin[list], parts_[p].begin[list + 1]);
            seen[number] = true;
            rows += matching;
            ++read_.lists[q];
        }
        read_.rows[q] += rows;
    }

    void scan(std::size_t q, const PackedDotTile& packed, std::size_t p, std::size_t begin, std::size_t end) {
        if (begin == end) return;
        parts_[p].part.mapped.require(begin, end);
        RangeTile tile;
        tile.add(best_[q], mask_of(q, p));
        ranges_.scan(rows_[p], begin, end, packed.view(), tile);
    }

    // What one query has not seen, in the order of rows. Returns how many rows that are.
    std::int64_t scan_others(std::size_t q, const PackedDotTile& packed, const std::vector<bool>& seen) {
        std::size_t count = 0;
        for (const Generation& generation : generations_) {
            const std::size_t lists = generation.table->lists();
            for (const std::size_t p : generation.parts) {
                for (std::size_t list = 0; list < lists; ++list) {
                    const std::size_t first = list;
                    while (list < lists && !seen[generation.first_list + list]) ++list;
                    const std::size_t begin = parts_[p].begin[first], end = parts_[p].begin[list];
                    count += count_rows(mask_of(q, p), begin, end);
                    scan(q, packed, p, begin, end);
                }
            }
        }
        return static_cast<std::int64_t>(count);
    }

    const Kernels& kernels_;
    std::span<const ListedPart> parts_;
    const DotQueries& queries_;
    const WantedOfParts<float>& wanted_;
    const ListWanted& rule_;
    ListsRead& read_;
    std::vector<Generation> generations_;
    RangeScan ranges_;
    std::vector<ListBest> best_;
    std::vector<RangeRows> rows_;
    Memory scores_;
    std::size_t stride_ = 0;
    bool any_mapped_ = false;
};

}  // namespace

Candidates list_candidates(const Kernels& kernels, std::span<const ListedPart> parts, const DotQueries& queries,
                           const WantedOfParts<float>& wanted, const ListWanted& rule, ListsRead& read) {
    return ListSearch(kernels, parts, queries, wanted, rule, read).run();
}

}  // namespace bebr
