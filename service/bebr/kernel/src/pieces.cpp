#include "pieces.hpp"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>

#include "checksum.hpp"

namespace bebr {

Pieces::Pieces(const std::uint8_t* bytes, std::size_t size, std::size_t piece_size, const std::uint32_t* checksums)
    : bytes_(bytes),
      size_(size),
      piece_size_(piece_size),
      checksums_(checksums),
      checked_(new std::atomic<std::uint32_t>[(size + piece_size - 1) / piece_size]()) {}

bool Pieces::check_pieces(std::size_t begin, std::size_t end, std::uint32_t round) {
    end = std::min(end, size_);
    const std::size_t last = (end + piece_size_ - 1) / piece_size_;
    for (std::size_t piece = begin / piece_size_; piece < last; ++piece) {
        if (checked_[piece].load(std::memory_order_acquire) == round) continue;
        const std::size_t first = piece * piece_size_;
        if (crc32(bytes_ + first, std::min(piece_size_, size_ - first)) != checksums_[piece]) return false;
        checked_[piece].store(round, std::memory_order_release);
    }
    if (begin == 0 && end == size_) all_.store(round, std::memory_order_release);
    return true;
}

bool Pieces::was_checked(std::size_t begin, std::size_t end) const {
    const std::uint32_t round = round_.load(std::memory_order_acquire);
    if (all_.load(std::memory_order_acquire) == round) return true;
    const std::size_t last = (std::min(end, size_) + piece_size_ - 1) / piece_size_;
    for (std::size_t piece = begin / piece_size_; piece < last; ++piece)
        if (checked_[piece].load(std::memory_order_acquire) != round) return false;
    return true;
}

void Pieces::advise(std::size_t begin, std::size_t end) const {
    static const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    if (begin >= end) return;
    begin = begin / piece_size_ * piece_size_;
    end = std::min(size_, (end + piece_size_ - 1) / piece_size_ * piece_size_);
    const auto first = reinterpret_cast<std::uintptr_t>(bytes_ + begin) / page * page;
    madvise(reinterpret_cast<void*>(first), reinterpret_cast<std::uintptr_t>(bytes_ + end) - first, MADV_WILLNEED);
}

std::atomic<int> DiskWaits::left_{0};

long DiskWaits::count() {
#ifdef RUSAGE_THREAD
    struct rusage used;
    return getrusage(RUSAGE_THREAD, &used) == 0 ? used.ru_majflt : 0;
#else
    return 0;
#endif
}

}  // namespace bebr
