// Mapped bytes in pieces with a checksum each, as Python opens them.
#include "bindings.hpp"
#include "mapping.hpp"
#include "pieces.hpp"

using namespace nb::literals;

namespace bebr {
namespace {

// Keeps its arrays alive.
struct HeldPieces : Pieces {
    HeldPieces(const Vector<const std::uint8_t>& bytes_, std::size_t piece_size,
               const Vector<const std::uint32_t>& checksums_)
        : Pieces(bytes_.data(), bytes_.shape(0), piece_size, checksums_.data()), bytes(bytes_), checksums(checksums_) {}

    Vector<const std::uint8_t> bytes;
    Vector<const std::uint32_t> checksums;
};

}  // namespace

void bind_pieces(nb::module_& m) {
    nb::exception<DamagedRows>(m, "DamagedRows");
    const auto unlocked = nb::call_guard<nb::gil_scoped_release>();
    nb::class_<Pieces>(m, "AnyPieces");
    nb::class_<HeldPieces, Pieces>(m, "Pieces")
        .def(nb::init<const Vector<const std::uint8_t>&, std::size_t, const Vector<const std::uint32_t>&>(), "bytes"_a,
             "piece_size"_a, "checksums"_a)
        .def_prop_ro("size", [](const HeldPieces& pieces) { return pieces.size(); })
        .def_prop_ro("is_checked", [](const HeldPieces& pieces) { return pieces.is_checked(); })
        .def("check", [](HeldPieces& pieces, std::size_t begin, std::size_t end) { return pieces.check(begin, end); },
             "begin"_a, "end"_a, unlocked)
        .def("check_all", [](HeldPieces& pieces) { return pieces.check_all(); }, unlocked)
        .def("advise",
             [](const HeldPieces& pieces, std::size_t begin, std::size_t end) { pieces.advise(begin, end); }, "begin"_a,
             "end"_a, unlocked)
        .def("forget", [](HeldPieces& pieces) { pieces.forget(); });
    m.def("lost_pages", &lost_pages);
}

}  // namespace bebr
