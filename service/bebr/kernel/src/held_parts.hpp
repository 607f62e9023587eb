// Parts as they come from Python: arrays of many rows that were handed in once.
#pragma once

#include <nanobind/stl/shared_ptr.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <tuple>

#include "bindings.hpp"
#include "candidates.hpp"
#include "ids.hpp"
#include "lists.hpp"

namespace bebr {

// Keeps the arrays of its parts alive. Nothing is added once it is scanned.
class HeldParts {
public:
    void add_table(const Layout& layout, const Vector<const std::uint8_t>& blocked,
                   const Vector<const std::uint16_t>& gains, std::size_t rows, const Optional<std::uint16_t>& live,
                   const Vector<const std::uint64_t>& offsets, const Vector<const std::uint8_t>& blob,
                   const Vector<const std::uint64_t>& lookup, bool by_id,
                   const std::shared_ptr<const CentroidTable>& lists, const Optional<std::uint32_t>& begin,
                   const nb::object& pieces_of_codes, const nb::object& pieces_of_gains) {
        auto& held = add(layout, blocked, gains, rows, live, true);
        held.pieces = {pieces_of_codes, pieces_of_gains};
        if (!pieces_of_codes.is_none())
            held.mapped = {nb::cast<Pieces*>(pieces_of_codes), nb::cast<Pieces*>(pieces_of_gains),
                           layout.group_words() * sizeof(std::uint32_t)};
        held.by_id = by_id && !lists;
        held.lists = lists;
        held.begin = begin;
        held.table = {offsets.data(), lookup.shape(0), blob.data(), blob.shape(0), lookup.data()};
        held.tables = {offsets, blob, lookup};
    }

    void add_list(const Layout& layout, const Vector<const std::uint8_t>& blocked,
                  const Vector<const std::uint16_t>& gains, std::size_t rows, const Optional<std::uint16_t>& live,
                  const nb::list& ids) {
        add(layout, blocked, gains, rows, live, false).ids = ids;
    }

    std::vector<Part> at(const std::vector<std::uint32_t>& places) const {
        std::vector<Part> parts;
        parts.reserve(places.size());
        for (const std::uint32_t place : places) {
            const Held& held = held_.at(place);
            parts.push_back(held.part(place));
        }
        return parts;
    }

    std::vector<ListedPart> listed_at(const std::vector<std::uint32_t>& places) const {
        std::vector<ListedPart> parts;
        parts.reserve(places.size());
        for (const std::uint32_t place : places) {
            const Held& held = held_.at(place);
            parts.push_back({held.part(place), held.lists.get(), held.lists ? held.begin->data() : nullptr});
        }
        return parts;
    }

    // The ids of rows; None where one is not what was written.
    nb::list ids(const Vector<const std::int32_t>& places, const Vector<const std::int64_t>& rows) const {
        nb::list ids;
        for (std::size_t i = 0; i < rows.shape(0); ++i) ids.append(id(places.data()[i], rows.data()[i]));
        return ids;
    }

    // The `limit` best rows by these scores, best first, of equal ones those of lower ids: lists of their scores, ids
    // and places. And the position of a row whose id is not what was written, or -1.
    nb::tuple best(const Vector<const double>& scores, const Vector<const std::int32_t>& places,
                   const Vector<const std::int64_t>& rows, std::size_t limit) const {
        return best(scores.data(), places.data(), rows.data(), scores.shape(0), limit);
    }

    nb::tuple best(const double* scores, const std::int32_t* places, const std::int64_t* rows, std::size_t count,
                   std::size_t limit) const {
        nb::list best_scores, best_ids, best_places;
        const std::vector<std::size_t> order = best_positions(scores, count, limit);
        std::vector<nb::object> ids;
        for (const std::size_t position : order) {
            ids.push_back(id(places[position], rows[position]));
            if (ids.back().is_none()) return nb::make_tuple(best_scores, best_ids, best_places, position);
        }
        std::vector<std::size_t> ranks(order.size());
        std::iota(ranks.begin(), ranks.end(), std::size_t{0});
        const auto score = [&](std::size_t rank) { return scores[order[rank]]; };
        const auto lower_id = [&ids](std::size_t a, std::size_t b) {
            return PyUnicode_Compare(ids[a].ptr(), ids[b].ptr()) < 0;
        };
        for (std::size_t first = 0, last; first < ranks.size(); first = last) {
            for (last = first + 1; last < ranks.size() && score(last) == score(first);) ++last;
            if (last - first > 1)  // very many may tie with the last one, of which few are hits
                std::partial_sort(ranks.begin() + first, ranks.begin() + std::min(last, limit), ranks.begin() + last,
                                  lower_id);
        }
        ranks.resize(std::min(limit, ranks.size()));
        for (const std::size_t rank : ranks) {
            best_scores.append(score(rank));
            best_ids.append(ids[rank]);
            best_places.append(places[order[rank]]);
        }
        return nb::make_tuple(best_scores, best_ids, best_places, -1);
    }

    // None where it is not what was written.
    nb::object id(std::int32_t place, std::int64_t row) const {
        const Held& held = held_.at(place);
        if (static_cast<std::size_t>(row) >= held.rows.count) throw nb::index_error();
        if (!held.ordered) return held.ids[row];
        const auto [bytes, size] = read_id(held.table, row);
        return bytes ? nb::object(nb::str(bytes, size)) : nb::none();
    }

private:
    struct Held {
        Layout layout;
        Rows rows;
        const std::uint16_t* live;
        bool ordered;  // ids lie in `table`; else in `ids`
        IdTable table{};
        nb::list ids;
        std::shared_ptr<const CentroidTable> lists;  // or null: rows are in no list
        Optional<std::uint32_t> begin;               // of each list
        // What is pointed to.
        Vector<const std::uint8_t> blocked;
        Vector<const std::uint16_t> gains;
        Optional<std::uint16_t> mask;
        std::tuple<Vector<const std::uint64_t>, Vector<const std::uint8_t>, Vector<const std::uint64_t>> tables;
        bool by_id = false;  // rows are in the order of their ids
        MappedRows mapped{};
        std::tuple<nb::object, nb::object> pieces{};  // or none

        Part part(std::uint32_t place) const { return {&layout, rows, live, place, ordered && by_id, mapped}; }
    };

    Held& add(const Layout& layout, const Vector<const std::uint8_t>& blocked,
              const Vector<const std::uint16_t>& gains, std::size_t rows, const Optional<std::uint16_t>& live,
              bool ordered) {
        held_.push_back({layout, {as_words(blocked), gains.data(), rows}, live ? live->data() : nullptr, ordered, {}, {}, {}, {},
                         blocked, gains, live, {}});
        return held_.back();
    }

    std::vector<Held> held_;
};

inline nb::tuple moved(Candidates&& found) {
    return nb::make_tuple(as_array(std::move(found.scores)), as_array(std::move(found.places)), as_array(std::move(found.rows)),
                          as_array(std::move(found.starts)));
}

template <class Score>
WantedOfParts<Score> wanted(std::size_t queries, std::size_t k, const std::vector<Masks>& masks,
                            const Optional<std::int32_t>& mask_of_query, const Optional<Score>& bounds) {
    WantedOfParts<Score> asked{queries, k, {}, mask_of_query ? mask_of_query->data() : nullptr,
                               bounds ? bounds->data() : nullptr};
    for (const Masks& of_parts : masks) {
        auto& pointers = asked.masks.emplace_back();
        for (const auto& mask : of_parts) pointers.push_back(mask.data());
    }
    return asked;
}

}  // namespace bebr
