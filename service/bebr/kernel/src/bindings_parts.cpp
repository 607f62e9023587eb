// Parts: arrays of many rows that were handed in once, and are scanned together by each call.
#include <memory>
#include <string>
#include <tuple>

#include "bindings.hpp"
#include "candidates.hpp"
#include "dispatch.hpp"
#include "ids.hpp"

using namespace nb::literals;

namespace bebr {
namespace {

// Keeps the arrays of its parts alive. Nothing is added once it is scanned.
class Parts {
public:
    void add_table(const Layout& layout, const Vector<const std::uint8_t>& blocked,
                   const Vector<const std::uint16_t>& gains, std::size_t rows, const Optional<std::uint16_t>& live,
                   const Vector<const std::uint64_t>& offsets, const Vector<const std::uint8_t>& blob,
                   const Vector<const std::uint64_t>& lookup) {
        auto& held = add(layout, blocked, gains, rows, live, true);
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
            parts.push_back({&held.layout, held.rows, held.live, place, held.ordered});
        }
        return parts;
    }

    // The ids of rows; None where one is not what was written.
    nb::list ids(const Vector<const std::int32_t>& places, const Vector<const std::int64_t>& rows) const {
        nb::list ids;
        for (std::size_t i = 0; i < rows.shape(0); ++i) {
            const Held& held = held_.at(places.data()[i]);
            const auto row = static_cast<std::size_t>(rows.data()[i]);
            if (row >= held.rows.count) throw nb::index_error();
            if (!held.ordered) {
                ids.append(held.ids[row]);
                continue;
            }
            const auto [bytes, size] = read_id(held.table, row);
            ids.append(bytes ? nb::object(nb::str(bytes, size)) : nb::none());
        }
        return ids;
    }

private:
    struct Held {
        Layout layout;
        Rows rows;
        const std::uint16_t* live;
        bool ordered;  // by id, which lie in `table`; else in `ids`
        IdTable table{};
        nb::list ids;
        // What is pointed to.
        Vector<const std::uint8_t> blocked;
        Vector<const std::uint16_t> gains;
        Optional<std::uint16_t> mask;
        std::tuple<Vector<const std::uint64_t>, Vector<const std::uint8_t>, Vector<const std::uint64_t>> tables;
    };

    Held& add(const Layout& layout, const Vector<const std::uint8_t>& blocked,
              const Vector<const std::uint16_t>& gains, std::size_t rows, const Optional<std::uint16_t>& live,
              bool ordered) {
        held_.push_back({layout, {as_words(blocked), gains.data(), rows}, live ? live->data() : nullptr, ordered, {}, {},
                         blocked, gains, live, {}});
        return held_.back();
    }

    std::vector<Held> held_;
};

template <class Number>
nb::object moved(std::vector<Number>&& numbers) {
    auto* owned = new std::vector<Number>(std::move(numbers));
    nb::capsule owner(owned, [](void* held) noexcept { delete static_cast<std::vector<Number>*>(held); });
    return nb::cast(nb::ndarray<nb::numpy, Number, nb::ndim<1>>(owned->data(), {owned->size()}, owner));
}

nb::tuple moved(Candidates&& found) {
    return nb::make_tuple(moved(std::move(found.scores)), moved(std::move(found.places)), moved(std::move(found.rows)),
                          moved(std::move(found.starts)));
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
    nb::class_<Parts>(m, "Parts")
        .def(nb::init<>())
        .def("add_table", &Parts::add_table, "layout"_a, "blocked"_a, "gains"_a, "rows"_a, "live"_a.none(),
             "offsets"_a, "blob"_a, "lookup"_a)
        .def("add_list", &Parts::add_list, "layout"_a, "blocked"_a, "gains"_a, "rows"_a, "live"_a.none(), "ids"_a)
        .def("ids", &Parts::ids, "places"_a, "rows"_a);
    m.def("dot_candidates", &dot, "parts"_a, "places"_a, "values"_a, "scales"_a, "k"_a, "masks"_a,
          "mask_of_query"_a.none(), "floors"_a.none());
    m.def("hamming_candidates", &hamming, "parts"_a, "places"_a, "codes"_a, "k"_a, "masks"_a,
          "mask_of_query"_a.none(), "ceilings"_a.none());
}

}  // namespace bebr
