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
#include <tuple>

#include "checksum.hpp"

namespace bebr {
namespace {

constexpr std::size_t kGapBytes = 4096;    // to read so many bytes for nothing costs no more than another call
constexpr std::size_t kRunBytes = 1 << 16;  // at most, of rows that are read together

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

// Rows of a file that lie near each other, and are read by one call.
struct Run {
    std::int32_t file;
    std::size_t position;
    std::size_t size;
    std::size_t first, last;  // its rows, in Runs::order
};

struct Runs {
    std::vector<std::size_t> order;  // of the rows that are wanted, by file and position
    std::vector<Run> runs;
};

Runs runs_of(const std::vector<RowFile*>& files, const std::int32_t* file_of, const std::int64_t* rows,
                         std::size_t count, std::size_t row_size) {
    Runs found;
    auto& [order, runs] = found;
    order.reserve(count);
    for (std::size_t i = 0; i < count; ++i)
        if (file_of[i] >= 0) order.push_back(i);
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return std::tie(file_of[a], rows[a], a) < std::tie(file_of[b], rows[b], b);
    });
    runs.reserve(order.size());
    for (std::size_t n = 0; n < order.size(); ++n) {
        const std::size_t i = order[n];
        const std::size_t position = files[file_of[i]]->position(rows[i]), end = position + row_size;
        if (!runs.empty() && runs.back().file == file_of[i]) {
            Run& last = runs.back();
            if (position <= last.position + last.size + kGapBytes && end - last.position <= kRunBytes) {
                last.size = end - last.position;
                last.last = n + 1;
                continue;
            }
        }
        runs.push_back({file_of[i], position, row_size, n, n + 1});
    }
    return found;
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
    const auto [order, runs] = runs_of(files, file_of, rows, count, row_size);
    std::vector<std::shared_ptr<const int>> opened(files.size());
    std::vector<const Run*> waiting;
    std::vector<std::uint8_t> joined;
    // Where a run is read to: one row at once to where it belongs.
    const auto target = [&, &order = order](const Run& run) {
        if (run.last - run.first == 1) return out + order[run.first] * row_size;
        joined.resize(run.size);
        return joined.data();
    };
    const auto hand_over = [&, &order = order](const Run& run) {
        if (run.last - run.first == 1) return;
        for (std::size_t n = run.first; n < run.last; ++n)
            std::memcpy(out + order[n] * row_size,
                        joined.data() + (files[run.file]->position(rows[order[n]]) - run.position), row_size);
    };
    for (const Run& run : runs) {
        auto& descriptor = opened[run.file];
        try {
            if (!descriptor) descriptor = files[run.file]->open();
        } catch (const std::system_error& error) {
            throw DamagedRow{order[run.first], error.code().value()};
        }
        if (read_cached(*descriptor, target(run), run.size, run.position)) {
            hand_over(run);
        } else {
            waiting.push_back(&run);
        }
    }
    for (const Run* run : waiting) announce(*opened[run->file], run->position, run->size);
    if (!waiting.empty() && !waits) return false;
    for (const Run* run : waiting) {
        if (const int error = read_waiting(*opened[run->file], target(*run), run->size, run->position))
            throw DamagedRow{order[run->first], error};
        hand_over(*run);
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
