// Scans what test_arm.py wrote to a file, and compares it with the results that stand there too: on a machine, or an
// emulator of one, that runs no Python. Prints what differs; the exit status says whether anything does.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "centroids.hpp"
#include "clustering.hpp"
#include "dispatch.hpp"
#include "lists.hpp"
#include "memory.hpp"
#include "scan.hpp"

using namespace bebr;

namespace {

std::vector<char> bytes;
std::size_t at = 0;
int differing = 0;

template <class T>
std::vector<T> take(std::size_t count) {
    std::vector<T> taken(count);
    std::memcpy(taken.data(), bytes.data() + at, count * sizeof(T));
    at += count * sizeof(T);
    return taken;
}

template <class T>
void compare(const char* what, const std::vector<T>& got) {
    if (take<T>(got.size()) == got) return;
    std::printf("%s differs\n", what);
    ++differing;
}

void check(const Kernels& kernels) {
    const auto blocks = take<std::uint32_t>(1)[0];
    std::vector<std::pair<std::uint32_t, std::uint32_t>> dims_bits;
    for (std::uint32_t b = 0; b < blocks; ++b) {
        const auto block = take<std::uint32_t>(2);
        dims_bits.emplace_back(block[0], block[1]);
    }
    const Layout layout(dims_bits);
    const auto sizes = take<std::uint32_t>(4);
    const std::size_t rows = sizes[0], queries = sizes[1], k = sizes[2], lists = sizes[3];
    const auto codes = take<std::uint8_t>(rows * layout.code_size_bytes);
    const auto gains = take<std::uint16_t>(rows);
    const auto values = take<std::int8_t>(queries * layout.dims);
    const auto scales = take<float>(queries * blocks);
    const auto signs = take<std::uint8_t>(queries * layout.code_size_bytes);
    const auto begin = take<std::uint32_t>(lists + 1);
    const auto centroids = take<std::int8_t>(lists * layout.dims);
    const auto centroid_scales = take<float>(lists * blocks);
    const auto deltas = take<float>(queries);
    const Memory memory(new Allocation(allocate(layout.blocked_size_bytes(rows))));
    auto* const words = reinterpret_cast<std::uint32_t*>(memory->bytes);
    pack(layout, codes.data(), rows, 0, words);
    const DotQueries dot{values.data(), scales.data()};

    const std::vector<const std::uint16_t*> masks(queries, nullptr);
    std::vector<float> scores(queries * k);
    std::vector<std::int64_t> found(queries * k);
    dot_top_k(kernels, layout, {words, gains.data(), rows}, dot, {queries, k, masks.data(), nullptr},
              {scores.data(), found.data()});
    compare("scores of dot", scores);
    compare("rows of dot", found);
    std::vector<std::int32_t> distances(queries * k);
    hamming_top_k(kernels, layout, {words, nullptr, rows}, signs.data(), {queries, k, masks.data(), nullptr},
                  {distances.data(), found.data()});
    compare("distances of hamming", distances);
    compare("rows of hamming", found);

    const CentroidTable table(layout, centroids.data(), centroid_scales.data(), lists, 1);
    const std::size_t padded = table.padded_lists();
    const Memory room(new Allocation(allocate(queries * padded * sizeof(float))));
    std::vector<float*> of_query;
    for (std::size_t q = 0; q < queries; ++q)
        of_query.push_back(reinterpret_cast<float*>(room->bytes) + q * padded);
    table.score(kernels, dot, of_query);
    std::vector<float> centroid_scores;
    for (const float* one : of_query) centroid_scores.insert(centroid_scores.end(), one, one + lists);
    compare("scores of centroids", centroid_scores);

    std::vector<std::int32_t> numbers(rows);
    std::vector<float> best(rows);
    assign(kernels, layout, words, rows, dot, queries, numbers.data(), best.data());
    compare("lists of rows", numbers);
    compare("scores of rows in their lists", best);

    const ListedPart part{{&layout, {words, gains.data(), rows}, nullptr, 0, false}, &table, begin.data()};
    const std::vector<std::int32_t> stop_at(queries, static_cast<std::int32_t>(k));
    const std::vector<std::int64_t> flat_rows(queries, std::int64_t{1} << 40);
    ListsRead read;
    const Candidates by_lists = list_candidates(kernels, {&part, 1}, dot, {queries, k, {}, nullptr, nullptr},
                                                {deltas.data(), stop_at.data(), flat_rows.data()}, read);
    compare("lists read", read.lists);
    compare("rows read", read.rows);
    compare("starts of hits", by_lists.starts);
    compare("rows of hits", by_lists.rows);
    compare("scores of hits", by_lists.scores);
}

}  // namespace

int main(int, char** arguments) {
    std::ifstream file(arguments[1], std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(file), {});
    int cases = 0;
    for (; at < bytes.size() && differing == 0; ++cases) check(current_kernels());
    std::printf("%d cases by %s kernels, %d differ\n", cases, current_kernels().name, differing);
    return differing != 0;
}
