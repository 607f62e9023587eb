// From embeddings to the ids of hits in one call; checked by bebr/kernel/projection.py.
#include <nanobind/stl/pair.h>

#include <time.h>

#include <algorithm>
#include <stdexcept>

#include "dispatch.hpp"
#include "held_parts.hpp"
#include "held_projection.hpp"
#include "held_sources.hpp"

using namespace nb::literals;

namespace bebr {
namespace {

// A search that scans more bytes leaves the interpreter to others meanwhile; one of less is over before they could begin.
constexpr std::size_t kLongScanBytes = std::size_t{1} << 19;

double thread_seconds() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// How the best rows of the scan are scored again.
struct Finer {
    const HeldSources* sources;  // or null: they are not
    RescoreQueries queries;
    const std::int64_t* most;  // (queries,): how many of each query
    bool waits;
};

// Keeps `most` of the rows first .. end, which are best first: of those that tie where they end, the ones of lower ids.
// False where an id is not what was written. Takes the interpreter where it needs ids.
bool order_at_cut(const HeldParts& parts, Candidates& found, std::size_t first, std::size_t end, std::size_t most) {
    const double* scores = found.scores.data();
    const std::size_t cut = first + most;
    if (scores[cut - 1] != scores[cut]) return true;
    std::size_t start = cut, stop = cut;
    while (start > first && scores[start - 1] == scores[cut]) --start;
    while (stop < end && scores[stop] == scores[cut]) ++stop;
    const nb::gil_scoped_acquire locked;
    struct Row {
        nb::object id;
        std::int32_t place;
        std::int64_t row;
    };
    std::vector<Row> rows;
    for (std::size_t i = start; i < stop; ++i) {
        rows.push_back({parts.id(found.places[i], found.rows[i]), found.places[i], found.rows[i]});
        if (rows.back().id.is_none()) return false;
    }
    std::sort(rows.begin(), rows.end(),
              [](const Row& a, const Row& b) { return PyUnicode_Compare(a.id.ptr(), b.id.ptr()) < 0; });
    for (std::size_t i = start; i < stop; ++i) {
        found.places[i] = rows[i - start].place;
        found.rows[i] = rows[i - start].row;
    }
    return true;
}

// Leaves of each query the rows that are scored again, and scores them. They are read together.
RowsRead score_again(const HeldParts& parts, Candidates& found, const Finer& finer) {
    const std::size_t count = found.starts.size() - 1;
    std::vector<std::int32_t> query_of;
    std::int64_t kept = 0;
    for (std::size_t q = 0; q < count; ++q) {
        const std::int64_t first = found.starts[q], end = found.starts[q + 1], size = std::min(end - first, finer.most[q]);
        if (size < end - first && !order_at_cut(parts, found, first, end, size)) return {first, 0};
        found.starts[q] = kept;
        for (std::int64_t i = first; i < first + size; ++i, ++kept) {
            found.scores[kept] = found.scores[i];
            found.places[kept] = found.places[i];
            found.rows[kept] = found.rows[i];
        }
        query_of.resize(kept, static_cast<std::int32_t>(q));
    }
    found.starts[count] = kept;
    return finer.sources->add_scores(finer.queries, found.places.data(), found.rows.data(), kept,
                                     count == 1 ? nullptr : query_of.data(), finer.waits, found.scores.data(), nullptr);
}

// Embeddings (queries, size) -> for each what `HeldParts::best` says of its `limit` best rows; the queries that they
// became, where `keeps`; how many lists and rows each query has read, where it has a rule; what became of reading rescore
// records; and the seconds of processor time that the scan took, where `measures`. added: to the scores of each query. sources: the `most` best rows of the
// scan of each query are scored again.
nb::tuple nearest(const HeldParts& parts, const std::vector<std::uint32_t>& places, const HeldProjection& projection,
                  const Matrix<const float>& embeddings, std::size_t k, std::size_t limit,
                  const Optional<double>& added, const std::vector<Masks>& masks,
                  const Optional<std::int32_t>& mask_of_query, const Optional<float>& floors,
                  const Optional<float>& deltas, const Optional<std::int32_t>& stop_at,
                  const Optional<std::int64_t>& flat_rows, bool keeps, bool measures, const HeldSources* sources,
                  const std::optional<Matrix<const std::int16_t>>& finer_values, const Optional<float>& finer_scales,
                  const Optional<std::int64_t>& most, bool waits) {
    const std::size_t count = embeddings.shape(0), size = embeddings.shape(1);
    if (deltas)
        for (std::size_t q = 0; q < count; ++q)
            if (stop_at->data()[q] < 1 || static_cast<std::size_t>(stop_at->data()[q]) > k)
                throw std::invalid_argument("stop_at must lie between 1 and k");
    const std::vector<Part> flat = deltas ? std::vector<Part>{} : parts.at(places);
    const std::vector<ListedPart> listed = deltas ? parts.listed_at(places) : std::vector<ListedPart>{};
    const Layout& layout = deltas ? *listed[0].part.layout : *flat[0].layout;
    std::size_t scanned = 0;
    bool waits_for_disk = sources != nullptr;
    const auto note = [&](const Part& part) {
        scanned += part.rows.count * layout.code_size_bytes;
        waits_for_disk |= static_cast<bool>(part.mapped);
    };
    for (const Part& part : flat) note(part);
    for (const ListedPart& one : listed) note(one.part);
    std::vector<std::int8_t> values(count * layout.dims);
    std::vector<float> scales(count * layout.blocks.size());
    Candidates found;
    ListsRead read;
    RowsRead rows_read{kAllRead, 0};
    double seconds = 0;
    const auto asked = wanted(count, k, masks, mask_of_query, floors);
    const auto find = [&] {
        const double began = measures ? thread_seconds() : 0;
        const Projection view = projection.view();
        for (std::size_t q = 0; q < count; ++q)
            view.apply(current_kernels(), embeddings.data() + q * size, &values[q * layout.dims],
                       &scales[q * layout.blocks.size()]);
        const DotQueries queries{values.data(), scales.data()};
        found = !deltas ? dot_candidates(current_kernels(), flat, queries, asked)
                        : list_candidates(current_kernels(), listed, queries, asked,
                                          {deltas->data(), stop_at->data(), flat_rows->data()}, read);
        if (measures) seconds = thread_seconds() - began;
        if (added)
            for (std::size_t q = 0; q < count; ++q)
                for (std::int64_t i = found.starts[q]; i < found.starts[q + 1]; ++i)
                    found.scores[i] += added->data()[q];
        if (sources)
            rows_read = score_again(parts, found, {sources, {finer_values->data(), finer_scales->data()}, most->data(), waits});
    };
    if (scanned * count < kLongScanBytes && !waits_for_disk) {
        find();
    } else {
        const nb::gil_scoped_release unlocked;
        find();
    }
    nb::list answers;
    for (std::size_t q = 0; q < count && rows_read.first == kAllRead; ++q) {
        const std::int64_t first = found.starts[q];
        answers.append(parts.best(found.scores.data() + first, found.places.data() + first, found.rows.data() + first,
                                  found.starts[q + 1] - first, limit));
    }
    nb::object kept = nb::none(), lists_read = nb::none();
    if (keeps)
        kept = nb::make_tuple(as_array(std::move(values), {count, layout.dims}),
                              as_array(std::move(scales), {count, layout.blocks.size()}));
    if (deltas) lists_read = nb::make_tuple(as_array(std::move(read.lists)), as_array(std::move(read.rows)));
    return nb::make_tuple(answers, kept, lists_read, rows_read, seconds);
}

}  // namespace

void bind_nearest(nb::module_& m) {
    m.def("nearest", &nearest, "parts"_a, "places"_a, "projection"_a, "embeddings"_a, "k"_a, "limit"_a,
          "added"_a.none(), "masks"_a, "mask_of_query"_a.none(), "floors"_a.none(), "deltas"_a.none(),
          "stop_at"_a.none(), "flat_rows"_a.none(), "keeps"_a, "measures"_a, "sources"_a.none(), "finer_values"_a.none(),
          "finer_scales"_a.none(), "most"_a.none(), "waits"_a);
}

}  // namespace bebr
