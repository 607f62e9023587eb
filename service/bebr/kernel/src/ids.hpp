// Strings of a table in a mapped file, each checked when it is read: the file may have changed since it was opened.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "checksum.hpp"

namespace bebr {

// Whether `lookup` (ascending; hash in the high half, row in the low one) says that this row has this hash.
inline bool has_hash(const std::uint64_t* lookup, std::size_t rows, std::uint64_t row, std::uint32_t hash) {
    const std::uint64_t wanted = std::uint64_t{hash} << 32 | row;
    std::size_t low = 0, high = rows;
    while (low < high) {
        const std::size_t middle = low + (high - low) / 2;
        if (lookup[middle] < wanted) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < rows && lookup[low] == wanted;
}

// Strings of rows: blob[offsets[row] .. offsets[row + 1]], each with its hash in `lookup`.
struct IdTable {
    const std::uint64_t* offsets;
    std::size_t rows;
    const std::uint8_t* blob;
    std::size_t blob_size;
    const std::uint64_t* lookup;
};

// The bytes of the string of a row; of null where they are not what was written.
inline std::pair<const char*, std::size_t> read_id(const IdTable& table, std::uint64_t row) {
    const std::uint64_t start = table.offsets[row], stop = table.offsets[row + 1];
    if (start > stop || stop > table.blob_size) return {nullptr, 0};
    if (!has_hash(table.lookup, table.rows, row, crc32(table.blob + start, stop - start))) return {nullptr, 0};
    return {reinterpret_cast<const char*>(table.blob + start), stop - start};
}

}  // namespace bebr
