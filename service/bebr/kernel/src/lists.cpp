#include "lists.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include "list_range.hpp"
#include "list_reader.hpp"

namespace bebr {
namespace {

// What a query reads before others share its lists: a good idea of its k-th best hit saves lists that it need not read.
constexpr std::size_t kListsAlone = 12;
// What each query chooses at once, at most.
constexpr std::size_t kListsTogether = 1024;
// Rows of a long range that are planned at once.
constexpr std::size_t kRowsPlanned = 64 * 1024;

class ListSearch {
public:
    ListSearch(const Kernels& kernels, std::span<const ListedPart> parts, const DotQueries& queries,
               const WantedOfParts<float>& wanted, const ListWanted& rule, ListsRead& read)
        : kernels_(kernels), parts_(parts), queries_(queries), wanted_(wanted), rule_(rule), read_(read),
          layout_(*parts[0].part.layout), generations_(generations_of(parts)), plan_(kernels, layout_) {
        for (std::size_t q = 0; q < wanted.queries; ++q)
            readers_.emplace_back(layout_, queries, static_cast<std::uint32_t>(q), wanted.k,
                                  static_cast<std::size_t>(rule.stop_at[q]),
                                  wanted.bounds ? wanted.bounds[q] : HighestScore::kNothing);
        for (const ListedPart& part : parts) {
            rows_.emplace_back(part.part);
            any_mapped_ |= static_cast<bool>(part.part.mapped);
        }
        for (const Generation& one : generations_) lists_ += one.table->lists();
        read_.lists.assign(wanted.queries, 0);
        read_.rows.assign(wanted.queries, 0);
    }

    Candidates run() {
        scan_unlisted();
        if (!generations_.empty()) {
            pick_first();
            std::optional<DiskWaits> waits;
            if (any_mapped_) waits.emplace();
            const bool alone = wanted_.queries == 1;
            for (std::size_t q = 0; q < wanted_.queries; ++q)
                read_alone(q, alone ? std::numeric_limits<std::size_t>::max() : kListsAlone);
            while (!alone && read_together()) {}
            if (waits) waits->note();
        }
        Candidates found;
        found.starts.push_back(0);
        for (std::size_t q = 0; q < wanted_.queries; ++q) {
            readers_[q].best.write(found);
            read_.lists[q] = readers_[q].lists;
            read_.rows[q] += readers_[q].rows;
        }
        return found;
    }

private:
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
                readers_[q].best.push(static_cast<float>(found.scores[i]), static_cast<std::uint32_t>(found.places[i]),
                                      static_cast<std::uint32_t>(found.rows[i]));
    }

    // The first lists of each query. Where there are no cells, those that share a tile are scored together.
    void pick_first() {
        std::vector<std::uint32_t> room;
        for (Reader& reader : readers_) reader.seen.resize(lists_);
        if (std::any_of(generations_.begin(), generations_.end(), [](const Generation& g) { return g.table->has_cells(); })) {
            make_room(1);
            for (std::size_t q = 0; q < wanted_.queries; ++q) {
                const bool are_all = score_for(q, 0);
                readers_[q].order.pick(scored_, are_all, room);
            }
            return;
        }
        const auto tile = std::min(wanted_.queries, static_cast<std::size_t>(kernels_.centroid_tile));
        make_room(tile);
        std::array<float*, kMaxTile> of_queries;
        for (std::size_t first = 0; first < wanted_.queries; first += tile) {
            const std::size_t some = std::min(tile, wanted_.queries - first);
            std::size_t at = 0;
            for (const Generation& one : generations_) {
                for (std::size_t i = 0; i < some; ++i) of_queries[i] = scores() + i * stride_ + at;
                one.table->score(kernels_, queries_.from(layout_, first), {of_queries.data(), some});
                at += one.table->padded_lists();
            }
            for (std::size_t i = 0; i < some; ++i) {
                scored_.clear();
                const float* of_generation = scores() + i * stride_;
                for (const Generation& one : generations_) {
                    scored_.push_back({one.first_list, {of_generation, one.table->lists()}});
                    of_generation += one.table->padded_lists();
                }
                readers_[first + i].order.pick(scored_, true, room);
            }
        }
    }

    // Scores lists for one query, see CentroidTable::score_best; whether they are all there are.
    bool score_for(std::size_t q, std::size_t stage) {
        scored_.clear();
        float* at = scores();
        bool are_all = true;
        for (const Generation& one : generations_) {
            are_all &= one.table->score_best(kernels_, queries_.from(layout_, q), stage, at, one.first_list, scored_);
            at += one.table->padded_lists();
        }
        return are_all;
    }

    // For the scores of all lists, for so many queries.
    void make_room(std::size_t queries) {
        stride_ = 0;
        for (const Generation& one : generations_) stride_ += one.table->padded_lists();
        scores_.reset(new Allocation(allocate(queries * stride_ * sizeof(float))));
    }

    float* scores() const { return reinterpret_cast<float*>(scores_->bytes); }

    const Generation& generation_of(std::size_t number) const {
        std::size_t g = generations_.size() - 1;
        while (generations_[g].first_list > number) --g;
        return generations_[g];
    }

    // The next list that, as far as a query knows, is one to read; it is passed. While lists are still to be scored, also one
    // without rows for it, at which it may stop.
    std::optional<Reader::Chosen> choose(std::size_t q) {
        Reader& reader = readers_[q];
        const float least = reader.best.least(rule_.deltas[q]);
        while (has_next(q, least)) {
            const float score = reader.order.score();
            if (!(score >= least)) break;
            const std::size_t number = reader.order.number();
            const Generation& generation = generation_of(number);
            const std::size_t list = number - generation.first_list;
            std::size_t rows = 0;
            for (const std::size_t p : generation.parts)
                rows += count_rows(mask_of(q, p), parts_[p].begin[list], parts_[p].begin[list + 1]);
            reader.order.pop();
            if (rows == 0 && reader.order.are_all_scored()) continue;
            return Reader::Chosen{number, score, static_cast<std::int64_t>(rows)};
        }
        return std::nullopt;
    }

    bool has_next(std::size_t q, float least) {
        ListOrder& order = readers_[q].order;
        while (!order.has_next() && order.has_others()) {
            const bool are_all = score_for(q, order.stage());
            order.pick_others(scored_, are_all, lists_, least);
        }
        if (any_mapped_) advise(order.upcoming());
        return order.has_next();
    }

    // Lists that will be read soon, so that they are read from the disk together.
    void advise(std::span<const std::uint64_t> entries) const {
        const bool again = DiskWaits::expected();
        for (const std::uint64_t entry : entries) {
            const auto number = static_cast<std::uint32_t>(entry);
            const Generation& generation = generation_of(number);
            const std::size_t list = number - generation.first_list;
            for (const std::size_t p : generation.parts)
                parts_[p].part.mapped.advise(parts_[p].begin[list], parts_[p].begin[list + 1], again);
        }
    }

    // Whether a query goes on with a list: it still wants it, and does not rather read all that is left.
    bool goes_on(std::size_t q, const Reader::Chosen& next) {
        Reader& reader = readers_[q];
        if (!(next.score >= reader.best.least(rule_.deltas[q]))) {
            reader.done = true;
        } else if (next.rows == 0) {
            return true;
        } else if (reader.rows > rule_.flat_rows[q]) {
            read_others(q);
            reader.done = true;
        } else {
            reader.seen[next.number] = true;
            reader.rows += next.rows;
            ++reader.lists;
        }
        return !reader.done;
    }

    // Plans the ranges of a list for queries, and returns how many pieces are planned then.
    std::size_t plan(std::size_t number, std::span<const std::uint32_t> members) {
        const Generation& generation = generation_of(number);
        const std::size_t list = number - generation.first_list;
        std::array<const std::uint16_t*, kMaxTile> masks;
        for (const std::size_t p : generation.parts) {
            for (std::size_t i = 0; i < members.size(); ++i) masks[i] = mask_of(members[i], p);
            plan_.add(rows_[p], parts_[p].begin[list], parts_[p].begin[list + 1], {masks.data(), members.size()});
        }
        return plan_.pieces();
    }

    void scan(std::size_t piece, std::span<const std::uint32_t> members, const DotTile& packed, RangeTile& tile) {
        const auto p = static_cast<std::size_t>(plan_.part_of(piece) - rows_.data());
        const auto [begin, end] = plan_.rows_of(piece);
        parts_[p].part.mapped.require(begin, end);
        for (std::size_t i = 0; i < members.size(); ++i) tile.masks[i] = mask_of(members[i], p);
        plan_.scan(piece, packed, tile);
    }

    // Lists, best first, of one query, up to so many. Some are planned ahead, that their memory is asked for in time.
    void read_alone(std::size_t q, std::size_t limit) {
        const auto member = static_cast<std::uint32_t>(q);
        Reader& reader = readers_[q];
        RangeTile tile;
        tile.add(reader.best);
        plan_.clear();
        std::vector<std::size_t> ends;  // of each chosen list, in pieces
        std::size_t piece = 0;
        for (std::size_t at = 0; at < limit; ++at) {
            while (ends.size() < limit && (at == ends.size() || !plan_.reaches(ends[at]))) {
                const auto next = choose(q);
                if (!next) break;
                reader.chosen.push_back(*next);
                ends.push_back(next->rows == 0 ? plan_.pieces() : plan(next->number, {&member, 1}));
            }
            if (at == ends.size()) {
                reader.done = true;
                return;
            }
            if (!goes_on(q, reader.chosen[at])) return;
            for (; piece < ends[at]; ++piece) scan(piece, {&member, 1}, reader.packed.view(), tile);
        }
    }

    // What each query wants is chosen, and each list read once for all that chose it. Then every query goes through what
    // was found in the order of its lists, and stops where it would have stopped alone. False: all are done.
    bool read_together() {
        const std::vector<Step> steps = by_list(choose_together());
        if (std::all_of(readers_.begin(), readers_.end(), [](const Reader& reader) { return reader.done; })) return false;
        scan_together(steps);
        for (std::size_t q = 0; q < wanted_.queries; ++q)
            if (!readers_[q].done) take_hits(q);
        return true;
    }

    // A list that a query chose.
    struct Step {
        std::uint32_t number;
        std::uint32_t query;
        std::uint32_t position;
    };

    std::vector<Step> choose_together() {
        std::vector<Step> steps;
        for (std::size_t q = 0; q < wanted_.queries; ++q) {
            Reader& reader = readers_[q];
            if (reader.done) continue;
            reader.chosen.clear(), reader.hits.clear();
            std::int64_t rows = reader.rows;
            while (reader.chosen.size() < kListsTogether) {
                const auto next = choose(q);
                if (!next) break;
                if (next->rows > 0)
                    steps.push_back({static_cast<std::uint32_t>(next->number), static_cast<std::uint32_t>(q),
                                     static_cast<std::uint32_t>(reader.chosen.size())});
                reader.chosen.push_back(*next);
                if (rows > rule_.flat_rows[q]) break;
                rows += next->rows;
            }
            reader.done = reader.chosen.empty();
        }
        return steps;
    }

    // In the order of lists, of one list as they were.
    std::vector<Step> by_list(const std::vector<Step>& steps) const {
        std::vector<std::uint32_t> ends(lists_ + 1);
        for (const Step& step : steps) ++ends[step.number + 1];
        std::partial_sum(ends.begin(), ends.end(), ends.begin());
        std::vector<Step> sorted(steps.size());
        for (const Step& step : steps) sorted[ends[step.number]++] = step;
        return sorted;
    }

    // Steps in the order of lists. Those of one list are taken together, up to a tile of queries.
    void scan_together(const std::vector<Step>& steps) {
        plan_.clear();
        std::vector<std::pair<std::size_t, std::size_t>> ends;  // of each tile: in steps, in pieces
        std::vector<std::uint32_t> members(steps.size());
        for (std::size_t i = 0; i < steps.size(); ++i) members[i] = steps[i].query;
        std::size_t planned = 0, step = 0, piece = 0;
        for (std::size_t at = 0; step < steps.size(); ++at) {
            while (planned < steps.size() && (at == ends.size() || !plan_.reaches(ends[at].second))) {
                std::size_t end = planned + 1;
                while (end < steps.size() && steps[end].number == steps[planned].number &&
                       end - planned < static_cast<std::size_t>(kernels_.dot_tile))
                    ++end;
                const std::size_t pieces = plan(steps[planned].number, {&members[planned], end - planned});
                ends.emplace_back(end, pieces);
                planned = end;
            }
            const auto [end, pieces] = ends[at];
            RangeTile tile;
            for (; step < end; ++step) {
                Reader& reader = readers_[steps[step].query];
                tile.add(reader.best, &reader.hits, steps[step].position);
            }
            const std::span<const std::uint32_t> of_tile(&members[end - tile.size], tile.size);
            const DotTile packed = mix(of_tile);
            for (; piece < pieces; ++piece) scan(piece, of_tile, packed, tile);
        }
    }

    // The queries of one tile, from each packed alone.
    DotTile mix(std::span<const std::uint32_t> members) {
        if (members.size() == 1) return readers_[members[0]].packed.view();
        std::size_t count = 0;
        for (const Block& block : layout_.blocks) count += block.words * block.fields;
        const auto interleave = [&](auto& mixed, std::size_t size, const auto& source) {
            mixed.resize(size * members.size());
            for (std::size_t i = 0; i < members.size(); ++i) {
                const auto* from = source(readers_[members[i]].packed.view());
                for (std::size_t at = 0; at < size; ++at) mixed[at * members.size() + i] = from[at];
            }
        };
        interleave(values_, count, [](const DotTile& one) { return one.values; });
        interleave(offsets_, layout_.blocks.size(), [](const DotTile& one) { return one.offsets; });
        interleave(scales_, layout_.blocks.size(), [](const DotTile& one) { return one.scales; });
        return {values_.data(), offsets_.data(), scales_.data()};
    }

    void take_hits(std::size_t q) {
        Reader& reader = readers_[q];
        std::sort(reader.hits.begin(), reader.hits.end(),
                  [](const ListHit& a, const ListHit& b) { return a.position < b.position; });
        auto hit = reader.hits.begin();
        for (std::size_t position = 0; position < reader.chosen.size(); ++position) {
            if (!goes_on(q, reader.chosen[position])) return;
            for (; hit != reader.hits.end() && hit->position == position; ++hit)
                if (hit->score >= reader.best.bound()) reader.best.push(hit->score, hit->place, hit->row);
        }
    }

    // All that one query has not seen, in the order of rows.
    void read_others(std::size_t q) {
        for (const Generation& generation : generations_) {
            const std::size_t lists = generation.table->lists();
            for (const std::size_t p : generation.parts) {
                for (std::size_t list = 0; list < lists; ++list) {
                    const std::size_t first = list;
                    while (list < lists && !readers_[q].seen[generation.first_list + list]) ++list;
                    read_rows(q, p, parts_[p].begin[first], parts_[p].begin[list]);
                }
            }
        }
    }

    void read_rows(std::size_t q, std::size_t p, std::size_t begin, std::size_t end) {
        const auto member = static_cast<std::uint32_t>(q);
        const std::uint16_t* const mask = mask_of(q, p);
        Reader& reader = readers_[q];
        reader.rows += static_cast<std::int64_t>(count_rows(mask, begin, end));
        RangeTile tile;
        tile.add(reader.best);
        for (; begin < end; begin = std::min(end, begin + kRowsPlanned)) {
            plan_.clear();
            plan_.add(rows_[p], begin, std::min(end, begin + kRowsPlanned), {&mask, 1});
            for (std::size_t piece = 0; piece < plan_.pieces(); ++piece)
                scan(piece, {&member, 1}, reader.packed.view(), tile);
        }
    }

    const Kernels& kernels_;
    std::span<const ListedPart> parts_;
    const DotQueries& queries_;
    const WantedOfParts<float>& wanted_;
    const ListWanted& rule_;
    ListsRead& read_;
    const Layout& layout_;
    std::vector<Generation> generations_;
    std::size_t lists_ = 0;  // of all generations
    Memory scores_;           // of centroids
    std::size_t stride_ = 0;  // of the scores of one query
    std::vector<ScoredLists> scored_;
    RangePlan plan_;
    std::vector<Reader> readers_;
    std::vector<RangeRows> rows_;
    std::vector<std::int32_t> values_, offsets_;  // of a tile
    std::vector<float> scales_;
    bool any_mapped_ = false;
};

}  // namespace

Candidates list_candidates(const Kernels& kernels, std::span<const ListedPart> parts, const DotQueries& queries,
                           const WantedOfParts<float>& wanted, const ListWanted& rule, ListsRead& read) {
    return ListSearch(kernels, parts, queries, wanted, rule, read).run();
}

}  // namespace bebr
