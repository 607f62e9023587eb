// Parts: arrays of many rows that were handed in once, and are scanned together by each call.
#include <nanobind/stl/shared_ptr.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <tuple>

#include "bindings.hpp"
#include "candidates.hpp"
#include "dispatch.hpp"
#include "held_projection.hpp"
#include "ids.hpp"
#include "lists.hpp"

using namespace nb::literals;

namespace bebr {
namespace {

// A scan of more bytes leaves the interpreter to others meanwhile; that of less is over before they could begin.
constexpr std::size_t kLongScanBytes = std::size_t{1} << 19;

// Keeps the arrays of its parts alive. Nothing is added once it is scanned.
class Parts {
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

    // Embeddings (queries, size) -> for each what `best` says of the rows that score best by adc; the queries that they
    // became, where `keeps`; and how many lists and rows each query has read, where it has a rule. added: to the scores
    // of each query, or null.
    nb::tuple nearest(const std::vector<std::uint32_t>& places, const HeldProjection& projection,
                      const Matrix<const float>& embeddings, std::size_t k, const Optional<double>& added,
                      const Optional<float>& deltas, const Optional<std::int32_t>& stop_at,
                      const Optional<std::int64_t>& flat_rows, bool keeps) const {
        const std::size_t count = embeddings.shape(0);
        std::vector<std::int8_t> values;
        std::vector<float> scales;
        ListsRead read;
        const Candidates found =
            candidates(places, projection, embeddings, k, added, deltas, stop_at, flat_rows, values, scales, read);
        const std::size_t dims = values.size() / std::max<std::size_t>(count, 1);
        const std::size_t blocks = scales.size() / std::max<std::size_t>(count, 1);
        nb::list answers;
        for (std::size_t q = 0; q < count; ++q) {
            const auto first = static_cast<std::size_t>(found.starts[q]);
            const auto end = static_cast<std::size_t>(found.starts[q + 1]);
            answers.append(best(found.scores.data() + first, found.places.data() + first, found.rows.data() + first,
                                end - first, k));
        }
        const auto kept = [&]() -> nb::object {
            if (!keeps) return nb::none();
            return nb::make_tuple(as_array(std::move(values), {count, dims}), as_array(std::move(scales), {count, blocks}));
        };
        if (!deltas) return nb::make_tuple(answers, kept(), nb::none());
        return nb::make_tuple(answers, kept(),
                              nb::make_tuple(as_array(std::move(read.lists)), as_array(std::move(read.rows))));
    }

    // What `nearest` scans for, and what it finds before ids are read: the best rows, and all that tie with the last.
    Candidates candidates(const std::vector<std::uint32_t>& places, const HeldProjection& projection,
                          const Matrix<const float>& embeddings, std::size_t k, const Optional<double>& added,
                          const Optional<float>& deltas, const Optional<std::int32_t>& stop_at,
                          const Optional<std::int64_t>& flat_rows, std::vector<std::int8_t>& values,
                          std::vector<float>& scales, ListsRead& read) const {
        const std::size_t count = embeddings.shape(0), size = embeddings.shape(1);
        if (deltas)
            for (std::size_t q = 0; q < count; ++q)
                if (stop_at->data()[q] < 1 || static_cast<std::size_t>(stop_at->data()[q]) > k)
                    throw std::invalid_argument("stop_at must lie between 1 and k");
        const std::vector<Part> parts = at(places);
        const std::vector<ListedPart> listed = deltas ? listed_at(places) : std::vector<ListedPart>{};
        const std::size_t dims = parts[0].layout->dims, blocks = parts[0].layout->blocks.size();
        std::size_t scanned = 0;
        for (const Part& part : parts) scanned += part.rows.count * parts[0].layout->code_size_bytes;
        values.resize(count * dims);
        scales.resize(count * blocks);
        Candidates found;
        const auto find = [&] {
            const Projection view = projection.view();
            for (std::size_t q = 0; q < count; ++q)
                view.apply(current_kernels(), embeddings.data() + q * size, &values[q * dims], &scales[q * blocks]);
            const DotQueries queries{values.data(), scales.data()};
            const WantedOfParts<float> asked{count, k, {}, nullptr, nullptr};
            found = !deltas ? dot_candidates(current_kernels(), parts, queries, asked)
                            : list_candidates(current_kernels(), listed, queries, asked,
                                              {deltas->data(), stop_at->data(), flat_rows->data()}, read);
        };
        if (scanned * count < kLongScanBytes) {
            find();
        } else {
            const nb::gil_scoped_release unlocked;
            find();
        }
        if (added)
            for (std::size_t q = 0; q < count; ++q)
                for (std::int64_t i = found.starts[q]; i < found.starts[q + 1]; ++i) found.scores[i] += added->data()[q];
        return found;
    }

private:
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

    nb::object id(std::int32_t place, std::int64_t row) const {
        const Held& held = held_.at(place);
        if (static_cast<std::size_t>(row) >= held.rows.count) throw nb::index_error();
        if (!held.ordered) return held.ids[row];
        const auto [bytes, size] = read_id(held.table, row);
        return bytes ? nb::object(nb::str(bytes, size)) : nb::none();
    }

    Held& add(const Layout& layout, const Vector<const std::uint8_t>& blocked,
              const Vector<const std::uint16_t>& gains, std::size_t rows, const Optional<std::uint16_t>& live,
              bool ordered) {
        held_.push_back({layout, {as_words(blocked), gains.data(), rows}, live ? live->data() : nullptr, ordered, {}, {}, {}, {},
                         blocked, gains, live, {}});
        return held_.back();
    }

    std::vector<Held> held_;
};

nb::tuple moved(Candidates&& found) {
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

nb::tuple dot(const Parts& parts, const std::vector<std::uint32_t>& places, const Matrix<const std::int8_t>& values,
              const Matrix<const float>& scales, std::size_t k, const std::vector<Masks>& masks,
              const Optional<std::int32_t>& mask_of_query, const Optional<float>& floors) {
    const auto asked = wanted(values.shape(0), k, masks, mask_of_query, floors);
    const std::vector<Part> scanned = parts.at(places);
    Candidates found;
    {
        const nb::gil_scoped_release unlocked;
        found = dot_candidates(current_kernels(), scanned, {values.data(), scales.data()}, asked);
    }
    return moved(std::move(found));
}

nb::tuple of_embeddings(const Parts& parts, const std::vector<std::uint32_t>& places, const HeldProjection& projection,
                        const Matrix<const float>& embeddings, std::size_t k, const Optional<double>& added) {
    std::vector<std::int8_t> values;
    std::vector<float> scales;
    ListsRead read;
    return moved(parts.candidates(places, projection, embeddings, k, added, {}, {}, {}, values, scales, read));
}

nb::tuple by_lists(const Parts& parts, const std::vector<std::uint32_t>& places,
                   const Matrix<const std::int8_t>& values, const Matrix<const float>& scales, std::size_t k,
                   const std::vector<Masks>& masks, const Optional<std::int32_t>& mask_of_query,
                   const Optional<float>& floors, const Vector<const float>& deltas,
                   const Vector<const std::int32_t>& stop_at, const Vector<const std::int64_t>& flat_rows) {
    const auto asked = wanted(values.shape(0), k, masks, mask_of_query, floors);
    const std::vector<ListedPart> scanned = parts.listed_at(places);
    Candidates found;
    ListsRead read;
    {
        const nb::gil_scoped_release unlocked;
        found = list_candidates(current_kernels(), scanned, {values.data(), scales.data()}, asked,
                                {deltas.data(), stop_at.data(), flat_rows.data()}, read);
    }
    return nb::make_tuple(moved(std::move(found)), as_array(std::move(read.lists)), as_array(std::move(read.rows)));
}

nb::tuple hamming(const Parts& parts, const std::vector<std::uint32_t>& places, const Matrix<const std::uint8_t>& codes,
                  std::size_t k, const std::vector<Masks>& masks, const Optional<std::int32_t>& mask_of_query,
                  const Optional<std::int32_t>& ceilings) {
    const auto asked = wanted(codes.shape(0), k, masks, mask_of_query, ceilings);
    const std::vector<Part> scanned = parts.at(places);
    Candidates found;
    {
        const nb::gil_scoped_release unlocked;
        found = hamming_candidates(current_kernels(), scanned, codes.data(), asked);
    }
    return moved(std::move(found));
}

}  // namespace

void bind_parts(nb::module_& m) {
    nb::class_<HeldProjection>(m, "Projection")
        .def(nb::init<const Layout&, const Matrix<const float>&, const Optional<std::int64_t>&, const Optional<float>&,
                      const Vector<const float>&>(),
             "layout"_a, "matrix"_a, "of"_a.none(), "factors"_a.none(), "steps"_a);
    nb::class_<Parts>(m, "Parts")
        .def(nb::init<>())
        .def("add_table", &Parts::add_table, "layout"_a, "blocked"_a, "gains"_a, "rows"_a, "live"_a.none(),
             "offsets"_a, "blob"_a, "lookup"_a, "by_id"_a, "lists"_a.none(), "begin"_a.none(),
             "pieces_of_codes"_a.none(), "pieces_of_gains"_a.none())
        .def("add_list", &Parts::add_list, "layout"_a, "blocked"_a, "gains"_a, "rows"_a, "live"_a.none(), "ids"_a)
        .def("ids", &Parts::ids, "places"_a, "rows"_a)
        .def("best",
             nb::overload_cast<const Vector<const double>&, const Vector<const std::int32_t>&,
                               const Vector<const std::int64_t>&, std::size_t>(&Parts::best, nb::const_),
             "scores"_a, "places"_a, "rows"_a, "limit"_a)
        .def("nearest", &Parts::nearest, "places"_a, "projection"_a, "embeddings"_a, "k"_a, "added"_a.none(),
             "deltas"_a.none(), "stop_at"_a.none(), "flat_rows"_a.none(), "keeps"_a)
        .def("candidates", &of_embeddings, "places"_a, "projection"_a, "embeddings"_a, "k"_a, "added"_a.none());
    m.def("dot_candidates", &dot, "parts"_a, "places"_a, "values"_a, "scales"_a, "k"_a, "masks"_a,
          "mask_of_query"_a.none(), "floors"_a.none());
    m.def("list_candidates", &by_lists, "parts"_a, "places"_a, "values"_a, "scales"_a, "k"_a, "masks"_a,
          "mask_of_query"_a.none(), "floors"_a.none(), "deltas"_a, "stop_at"_a, "flat_rows"_a);
    m.def("hamming_candidates", &hamming, "parts"_a, "places"_a, "codes"_a, "k"_a, "masks"_a,
          "mask_of_query"_a.none(), "ceilings"_a.none());
}

}  // namespace bebr
