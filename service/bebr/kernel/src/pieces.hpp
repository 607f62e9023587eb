// Bytes that are mapped, in pieces with a checksum each. A piece is checked before its first use, so that a file can be
// opened without being read.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace bebr {

class Pieces {
public:
    // checksums: the crc32 of each piece of `piece_size` bytes; the last one may be shorter. All must outlive this.
    Pieces(const std::uint8_t* bytes, std::size_t size, std::size_t piece_size, const std::uint32_t* checksums);

    // Whether the bytes [begin, end) are what was written. What was checked before is not read again.
    bool check(std::size_t begin, std::size_t end) {
        const std::uint32_t round = round_.load(std::memory_order_acquire);
        if (all_.load(std::memory_order_acquire) == round || begin >= end) return true;
        return check_pieces(begin, end, round);
    }
    bool check_all() { return check(0, size_); }
    bool is_checked() const { return all_.load() == round_.load(); }
    // The bytes may have changed: all of them are checked anew before they are used.
    void forget() { round_.fetch_add(1, std::memory_order_acq_rel); }
    // Asks the system to read the bytes [begin, end) from the disk, without waiting for them.
    void advise(std::size_t begin, std::size_t end) const;
    std::size_t size() const { return size_; }

private:
    bool check_pieces(std::size_t begin, std::size_t end, std::uint32_t round);

    const std::uint8_t* bytes_;
    const std::size_t size_;
    const std::size_t piece_size_;
    const std::uint32_t* checksums_;
    std::atomic<std::uint32_t> round_{1};
    std::atomic<std::uint32_t> all_{0};                        // the round in which all pieces were checked
    std::unique_ptr<std::atomic<std::uint32_t>[]> checked_;    // the round in which each piece was
};

}  // namespace bebr
