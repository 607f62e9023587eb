#include "row_file.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <system_error>

#include "checksum.hpp"

namespace bebr {
namespace {

// More files than a search of a large collection reads from, and few beside what a process may have open.
std::size_t most_open() {
    rlimit limit{};
    const std::size_t allowed = getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 1024;
    return std::clamp<std::size_t>(allowed / 8, 8, 128);
}

std::mutex changing;
std::list<RowFile*> in_use;  // row files with a descriptor, the one that went unused for longest first

[[noreturn]] void fail(const std::string& path, int error) {
    throw std::system_error(error, std::generic_category(), path);
}

std::shared_ptr<const int> open_file(const std::string& path, const FilePrefix& prefix) {
    int file = -1;
#ifdef O_NOATIME
    file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOATIME);  // refused unless the file is ours
#endif
    if (file < 0) file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) fail(path, errno);
    std::shared_ptr<const int> opened(new int(file), [](const int* held) {
        close(*held);
        delete held;
    });
#ifdef POSIX_FADV_RANDOM
    posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM);
#endif
    FilePrefix found{};
    if (pread(file, found.data(), found.size(), 0) < 0) fail(path, errno);
    if (found != prefix) fail(path, ESTALE);
    return opened;
}

bool read_cached(int file, std::uint8_t* out, std::size_t size, std::size_t position) {
#ifdef RWF_NOWAIT
    const iovec where = {out, size};
    return preadv2(file, &where, 1, static_cast<off_t>(position), RWF_NOWAIT) == static_cast<ssize_t>(size);
#else
    (void)file, (void)out, (void)size, (void)position;
    return false;
#endif
}

void announce(int file, std::size_t position, std::size_t size) {
#ifdef POSIX_FADV_WILLNEED
    posix_fadvise(file, static_cast<off_t>(position), static_cast<off_t>(size), POSIX_FADV_WILLNEED);
#else
    (void)file, (void)position, (void)size;
#endif
}

// errno, or 0; a file that ends before is not what was written.
int read_waiting(int file, std::uint8_t* out, std::size_t size, std::size_t position) {
    ssize_t got;
    do got = pread(file, out, size, static_cast<off_t>(position));
    while (got < 0 && errno == EINTR);
    if (got < 0) return errno;
    std::memset(out + got, 0, size - static_cast<std::size_t>(got));
    return 0;
}

bool is_sound(const std::uint8_t* row, std::size_t row_size) {
    std::uint32_t kept;
    std::memcpy(&kept, row + row_size - kRowChecksumBytes, sizeof kept);
    return crc32(row, row_size - kRowChecksumBytes) == kept;
}

}  // namespace

RowFile::~RowFile() {
    const std::lock_guard<std::mutex> lock(changing);
    let_go();
}

void RowFile::let_go() {
    if (!descriptor_) return;
    in_use.erase(place_);
    descriptor_ = nullptr;
}

void RowFile::move_to(const std::string& path) {
    const std::lock_guard<std::mutex> lock(changing);
    path_ = path;
}

std::shared_ptr<const int> RowFile::open() {
    const std::lock_guard<std::mutex> lock(changing);
    if (descriptor_) {
        in_use.splice(in_use.end(), in_use, place_);
        return descriptor_;
    }
    for (const std::size_t most = most_open(); in_use.size() >= most;) in_use.front()->let_go();
    while (!descriptor_) {
        try {
            descriptor_ = open_file(path_, prefix_);
        } catch (const std::system_error& error) {
            if (error.code().value() != EMFILE || in_use.empty()) throw;
            in_use.front()->let_go();
        }
    }
    place_ = in_use.insert(in_use.end(), this);
    return descriptor_;
}

bool read_rows(const std::vector<RowFile*>& files, const std::int32_t* file_of, const std::int64_t* rows,
               std::size_t count, std::size_t row_size, bool waits, std::uint8_t* out) {
    std::vector<std::shared_ptr<const int>> opened(files.size());
    std::vector<std::size_t> waiting;
    for (std::size_t i = 0; i < count; ++i) {
        if (file_of[i] < 0) continue;
        auto& descriptor = opened[file_of[i]];
        try {
            if (!descriptor) descriptor = files[file_of[i]]->open();
        } catch (const std::system_error& error) {
            throw DamagedRow{i, error.code().value()};
        }
        if (!read_cached(*descriptor, out + i * row_size, row_size, files[file_of[i]]->position(rows[i])))
            waiting.push_back(i);
    }
    for (const std::size_t i : waiting) announce(*opened[file_of[i]], files[file_of[i]]->position(rows[i]), row_size);
    if (!waiting.empty() && !waits) return false;
    for (const std::size_t i : waiting) {
        const std::size_t position = files[file_of[i]]->position(rows[i]);
        if (const int error = read_waiting(*opened[file_of[i]], out + i * row_size, row_size, position))
            throw DamagedRow{i, error};
    }
    for (std::size_t i = 0; i < count; ++i)
        if (file_of[i] >= 0 && !is_sound(out + i * row_size, row_size)) throw DamagedRow{i, 0};
    return true;
}

void seal_rows(std::uint8_t* rows, std::size_t count, std::size_t row_size) {
    for (std::uint8_t* row = rows; row < rows + count * row_size; row += row_size) {
        const std::uint32_t checksum = crc32(row, row_size - kRowChecksumBytes);
        std::memcpy(row + row_size - kRowChecksumBytes, &checksum, sizeof checksum);
    }
}

std::size_t count_sound_rows(const std::uint8_t* rows, std::size_t count, std::size_t row_size) {
    std::size_t sound = 0;
    while (sound < count && is_sound(rows + sound * row_size, row_size)) ++sound;
    return sound;
}

}  // namespace bebr
