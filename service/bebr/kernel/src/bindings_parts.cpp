// Parts: arrays of many rows that were handed in once, and are scanned together by each call.
#include "dispatch.hpp"
#include "held_parts.hpp"
#include "held_projection.hpp"

using namespace nb::literals;

namespace bebr {
namespace {

nb::tuple dot(const HeldParts& parts, const std::vector<std::uint32_t>& places, const Matrix<const std::int8_t>& values,
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

nb::tuple by_lists(const HeldParts& parts, const std::vector<std::uint32_t>& places,
                   const Matrix<const std::int8_t>& values, const Matrix<const float>& scales, std::size_t k,
                   const std::vector<Masks>& masks, const Optional<std::int32_t>& mask_of_query,
                   const Optional<float>& floors, const Vector<const float>& deltas,
                   const Vector<const std::int32_t>& stop_at, const Vector<const std::int64_t>& flat_rows) {
    const auto asked = wanted(values.shape(0), k, masks, mask_of_query, floors);
    const std::vector<ListedPart> scanned = parts.listed_at(places);
    for (std::size_t q = 0; q < values.shape(0); ++q)
        if (stop_at.data()[q] < 1 || static_cast<std::size_t>(stop_at.data()[q]) > k)
            throw nb::value_error(("stop_at must lie between 1 and " + std::to_string(k)).c_str());
    Candidates found;
    ListsRead read;
    {
        const nb::gil_scoped_release unlocked;
        found = list_candidates(current_kernels(), scanned, {values.data(), scales.data()}, asked,
                                {deltas.data(), stop_at.data(), flat_rows.data()}, read);
    }
    return nb::make_tuple(moved(std::move(found)), as_array(std::move(read.lists)), as_array(std::move(read.rows)));
}

nb::tuple hamming(const HeldParts& parts, const std::vector<std::uint32_t>& places, const Matrix<const std::uint8_t>& codes,
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
    nb::class_<HeldParts>(m, "Parts")
        .def(nb::init<>())
        .def("add_table", &HeldParts::add_table, "layout"_a, "blocked"_a, "gains"_a, "rows"_a, "live"_a.none(),
             "offsets"_a, "blob"_a, "lookup"_a, "by_id"_a, "lists"_a.none(), "begin"_a.none(),
             "pieces_of_codes"_a.none(), "pieces_of_gains"_a.none())
        .def("add_list", &HeldParts::add_list, "layout"_a, "blocked"_a, "gains"_a, "rows"_a, "live"_a.none(), "ids"_a)
        .def("ids", &HeldParts::ids, "places"_a, "rows"_a)
        .def("best",
             nb::overload_cast<const Vector<const double>&, const Vector<const std::int32_t>&,
                               const Vector<const std::int64_t>&, std::size_t>(&HeldParts::best, nb::const_),
             "scores"_a, "places"_a, "rows"_a, "limit"_a);
    m.def("dot_candidates", &dot, "parts"_a, "places"_a, "values"_a, "scales"_a, "k"_a, "masks"_a,
          "mask_of_query"_a.none(), "floors"_a.none());
    m.def("list_candidates", &by_lists, "parts"_a, "places"_a, "values"_a, "scales"_a, "k"_a, "masks"_a,
          "mask_of_query"_a.none(), "floors"_a.none(), "deltas"_a, "stop_at"_a, "flat_rows"_a);
    m.def("hamming_candidates", &hamming, "parts"_a, "places"_a, "codes"_a, "k"_a, "masks"_a,
          "mask_of_query"_a.none(), "ceilings"_a.none());
}

}  // namespace bebr
