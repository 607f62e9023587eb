// Strings of a table in a mapped file, each checked when it is read: the file may have changed since it was opened.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace bebr {

// The crc32 of zlib.
inline std::uint32_t crc32(const std::uint8_t* bytes, std::size_t size) {
    static const auto table = [] {
        std::array<std::uint32_t, 256> entries{};
        for (std::uint32_t i = 0; i < 256; ++i) {
            std::uint32_t value = i;
            for (int bit = 0; bit < 8; ++bit) value = value & 1 ? 0xEDB88320u ^ (value >> 1) : value >> 1;
            entries[i] = value;
        }
        return entries;
    }();
    std::uint32_t value = ~0u;
    for (std::size_t i = 0; i < size; ++i) value = table[(value ^ bytes[i]) & 0xFF] ^ (value >> 8);
    return ~value;
}

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

}  // namespace bebr
