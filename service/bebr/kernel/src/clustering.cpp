#include "clustering.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "memory.hpp"

namespace bebr {
namespace {

// Rows that meet all queries before the next ones: they stay in the L2 cache.
constexpr std::size_t kRowsBytes = 128 * 1024;

// The grid values of all levels in each byte: [byte][level].
std::vector<float> grid_of_bytes(const Block& block) {
    std::vector<float> grid;
    for (std::uint32_t byte = 0; byte < 256; ++byte)
        for (std::uint32_t field = 0; field < block.fields; ++field) {
            const std::uint32_t level = byte >> (block.bits * field) & block.max_level;
            grid.push_back(2 * static_cast<float>(level) - static_cast<float>(block.max_level));
        }
    return grid;
}

void add_block(const Block& block, const std::uint8_t* code, const std::vector<float>& grid, double gain, double* sum) {
    const std::uint32_t whole = block.dims / block.fields;
    for (std::uint32_t byte = 0; byte < whole; ++byte, sum += block.fields) {
        const float* levels = grid.data() + std::size_t{code[byte]} * block.fields;
        for (std::uint32_t field = 0; field < block.fields; ++field) sum[field] += gain * levels[field];
    }
    const float* last = whole < block.size_bytes ? grid.data() + std::size_t{code[whole]} * block.fields : nullptr;
    for (std::uint32_t field = 0; field < block.dims % block.fields; ++field) sum[field] += gain * last[field];
}

// Exact for every half.
double gain_of(std::uint16_t half) {
    const std::uint32_t exponent = half >> 10 & 31, fraction = half & 1023;
    const double magnitude = exponent == 0    ? fraction * 0x1p-24
                             : exponent == 31 ? std::numeric_limits<double>::infinity()
                                              : (1024 + fraction) * 0x1p-25 * static_cast<double>(1u << exponent);
    return half >> 15 ? -magnitude : magnitude;
}

}  // namespace

void assign(const Kernels& kernels, const Layout& layout, const std::uint32_t* words, std::size_t rows,
            const DotQueries& queries, std::size_t count, std::int32_t* numbers, float* scores) {
    const auto tile_size = static_cast<std::size_t>(kernels.dot_tile);
    std::vector<PackedDotTile> tiles;
    for (std::size_t first = 0; first < count; first += tile_size) {
        // The last query fills the last tile: of those that tie the first one is kept.
        std::vector<std::uint32_t> members(tile_size);
        for (std::size_t q = 0; q < tile_size; ++q)
            members[q] = static_cast<std::uint32_t>(std::min(first + q, count - 1));
        tiles.emplace_back(layout, queries, members);
    }
    const std::size_t groups = (rows + kGroupRows - 1) / kGroupRows;
    const std::size_t chunk = std::max<std::size_t>(2, kRowsBytes / (layout.group_words() * sizeof(std::uint32_t)));
    const std::size_t room = chunk * kGroupRows;
    const Memory memory(new Allocation(allocate(room * (sizeof(float) + sizeof(std::int32_t)))));
    auto* const best = reinterpret_cast<float*>(memory->bytes);
    auto* const numbers_of_chunk = reinterpret_cast<std::int32_t*>(best + room);
    for (std::size_t first = 0; first < groups; first += chunk) {
        const std::size_t size = std::min(chunk, groups - first);
        std::fill_n(best, room, -std::numeric_limits<float>::infinity());
        std::fill_n(numbers_of_chunk, room, 0);
        for (std::size_t t = 0; t < tiles.size(); ++t)
            kernels.assign(layout.view(), tiles[t].view(), words + first * layout.group_words(), size,
                           static_cast<std::int32_t>(t * tile_size), best, numbers_of_chunk);
        const std::size_t copied = std::min(size * kGroupRows, rows - first * kGroupRows);
        std::copy_n(best, copied, scores + first * kGroupRows);
        std::copy_n(numbers_of_chunk, copied, numbers + first * kGroupRows);
    }
}

void best_queries(const Kernels& kernels, const Layout& layout, const std::uint32_t* words, std::size_t rows,
                  const DotQueries& queries, std::size_t count, std::size_t k, std::int32_t* numbers) {
    std::vector<PackedDotTile> tiles;  // of one query each, whose scores are then the best
    for (std::uint32_t q = 0; q < count; ++q)
        tiles.emplace_back(layout, queries, std::vector<std::uint32_t>(kernels.dot_tile, q));
    const std::size_t groups = (rows + kGroupRows - 1) / kGroupRows;
    const std::size_t chunk = std::max<std::size_t>(2, kRowsBytes / (layout.group_words() * sizeof(std::uint32_t)));
    const std::size_t room = chunk * kGroupRows;
    const Memory memory(new Allocation(allocate(room * (sizeof(float) + sizeof(std::int32_t)))));
    auto* const scores = reinterpret_cast<float*>(memory->bytes);
    auto* const unused = reinterpret_cast<std::int32_t*>(scores + room);
    std::vector<float> best(room * k);
    for (std::size_t first = 0; first < groups; first += chunk) {
        const std::size_t size = std::min(chunk, groups - first);
        const std::size_t copied = std::min(size * kGroupRows, rows - first * kGroupRows);
        std::int32_t* const of_chunk = numbers + first * kGroupRows * k;
        std::fill(best.begin(), best.end(), -std::numeric_limits<float>::infinity());
        for (std::size_t q = 0; q < count; ++q) {
            std::fill_n(scores, room, -std::numeric_limits<float>::infinity());
            kernels.assign(layout.view(), tiles[q].view(), words + first * layout.group_words(), size, 0, scores, unused);
            for (std::size_t row = 0; row < copied; ++row) {
                float* const kept = best.data() + row * k;
                std::size_t at = std::min(q, k);
                if (at == k && !(scores[row] > kept[k - 1])) continue;
                for (at = std::min(at, k - 1); at > 0 && scores[row] > kept[at - 1]; --at) {
                    kept[at] = kept[at - 1];
                    of_chunk[row * k + at] = of_chunk[row * k + at - 1];
                }
                kept[at] = scores[row];
                of_chunk[row * k + at] = static_cast<std::int32_t>(q);
            }
        }
    }
}

void accumulate(const Layout& layout, const Rows& rows, const std::int32_t* numbers, double* sums,
                std::int64_t* counts) {
    std::vector<std::vector<float>> grids;
    for (const Block& block : layout.blocks) grids.push_back(grid_of_bytes(block));
    std::vector<std::uint8_t> code(layout.code_size_bytes);
    for (std::size_t row = 0; row < rows.count; ++row) {
        const auto list = static_cast<std::size_t>(numbers[row]);
        const double gain = gain_of(rows.gains[row]);
        double* sum = sums + list * layout.dims;
        ++counts[list];
        unpack(layout, rows.words, row, code.data());
        for (std::size_t b = 0; b < layout.blocks.size(); ++b) {
            add_block(layout.blocks[b], code.data() + layout.blocks[b].first_byte, grids[b], gain, sum);
            sum += layout.blocks[b].dims;
        }
    }
}

}  // namespace bebr
