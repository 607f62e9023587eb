// Bytes that are mapped, in pieces with a checksum each. A piece is checked before its first use, so that a file can be
// opened without being read. And rows that lie there.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>

#include "block.hpp"

namespace bebr {

// Rows of a mapped file are not what was written.
struct DamagedRows : std::runtime_error {
    DamagedRows() : std::runtime_error("rows of a mapped file are not what was written") {}
};

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
    // Whether the bytes [begin, end) were checked. Those that were not are not in memory yet, as far as anybody knows.
    bool was_checked(std::size_t begin, std::size_t end) const;
    // Asks the system to read the pieces of the bytes [begin, end) from the disk, without waiting for them: all that a
    // check of these bytes reads. A page that was not asked for brings megabytes around it.
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

// Notices searches that wait for the disk although all they read was read before: the system takes memory back then, and
// the searches that follow ask for what they read ahead.
class DiskWaits {
public:
    DiskWaits() : before_(count()) {}
    static bool expected() { return left_.load(std::memory_order_relaxed) > 0; }
    // The search has ended.
    void note() const {
        if (count() != before_)
            left_.store(kSearches, std::memory_order_relaxed);
        else if (expected())
            left_.fetch_sub(1, std::memory_order_relaxed);
    }

private:
    static constexpr int kSearches = 100;
    static std::atomic<int> left_;
    static long count();  // by this thread

    long before_;
};

// Codes and gains of rows in a mapped file; nothing where they are in memory.
class MappedRows {
public:
    MappedRows() = default;
    MappedRows(Pieces* codes, Pieces* gains, std::size_t group_bytes)
        : codes_(codes), gains_(gains), group_bytes_(group_bytes) {}

    explicit operator bool() const { return codes_ != nullptr; }
    // Raises DamagedRows unless the rows [begin, end) are what was written.
    void require(std::size_t begin, std::size_t end) const {
        if (!codes_ || begin >= end) return;
        const std::size_t first = begin / kGroupRows, last = (end + kGroupRows - 1) / kGroupRows;
        if (!codes_->check(first * group_bytes_, last * group_bytes_) || !gains_->check(first * kGainBytes, last * kGainBytes))
            throw DamagedRows();
    }
    // The same of all rows, which are asked for together where that is their first use.
    void require_all() const {
        if (!codes_) return;
        for (Pieces* pieces : {codes_, gains_}) {
            if (!pieces->is_checked()) pieces->advise(0, pieces->size());
            if (!pieces->check_all()) throw DamagedRows();
        }
    }
    // Asks the system to read the rows [begin, end), without waiting for them. Those that were read before are in memory,
    // unless the system takes such memory back (`again`).
    void advise(std::size_t begin, std::size_t end, bool again) const {
        if (!codes_ || begin >= end) return;
        const std::size_t first = begin / kGroupRows, last = (end + kGroupRows - 1) / kGroupRows;
        if (again || !codes_->was_checked(first * group_bytes_, last * group_bytes_))
            codes_->advise(first * group_bytes_, last * group_bytes_);
        if (again || !gains_->was_checked(first * kGainBytes, last * kGainBytes))
            gains_->advise(first * kGainBytes, last * kGainBytes);
    }

private:
    static constexpr std::size_t kGainBytes = 2 * kGroupRows;  // of a group

    Pieces* codes_ = nullptr;
    Pieces* gains_ = nullptr;
    std::size_t group_bytes_ = 0;
};

}  // namespace bebr
