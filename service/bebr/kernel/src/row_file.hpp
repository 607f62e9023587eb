// Rows of fixed size in files, each ending with its crc32, that are read a few at a time and never stay in memory.
//
// They are read with pread: what a mapping touches counts as the process's memory, and to take it out again costs more
// than the reads. All row files of the process share a bounded number of open descriptors.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

namespace bebr {

constexpr std::size_t kRowChecksumBytes = 4;
using FilePrefix = std::array<std::uint8_t, 16>;

class RowFile {
public:
    // prefix: how the file begins; it tells the file from another one that gets its name later.
    // row_size: with the checksum.
    RowFile(std::string path, const FilePrefix& prefix, std::size_t first_byte, std::size_t row_size)
        : row_size(row_size), first_byte_(first_byte), prefix_(prefix), path_(std::move(path)) {}
    ~RowFile();
    RowFile(const RowFile&) = delete;
    RowFile& operator=(const RowFile&) = delete;

    const std::size_t row_size;
    std::size_t position(std::int64_t row) const { return first_byte_ + static_cast<std::size_t>(row) * row_size; }
    // The file lies at another path now.
    void move_to(const std::string& path);
    // An open descriptor, which stays open as long as it is held. Raises std::system_error: ESTALE where the file of
    // that name is another one.
    std::shared_ptr<const int> open();

private:
    void let_go();

    const std::size_t first_byte_;
    const FilePrefix prefix_;
    std::string path_;                      // this and what follows: guarded by the lock of all row files
    std::shared_ptr<const int> descriptor_;
    std::list<RowFile*>::iterator place_;   // among the open ones
};

// What went wrong with a row: its place among those that were wanted, and errno, or 0: it is not what was written.
struct DamagedRow {
    std::size_t place;
    int error;
};

// Copies rows to `out` (count, row_size); one whose file_of is negative is left as it is. Those that the system has in
// memory are copied at once; the others are announced together before the first of them is waited for. Without `waits`
// none is waited for: false where that would be needed, and the rows are not all there. Raises DamagedRow.
bool read_rows(const std::vector<RowFile*>& files, const std::int32_t* file_of, const std::int64_t* rows,
               std::size_t count, std::size_t row_size, bool waits, std::uint8_t* out);

// Writes the checksum at the end of each row; how many rows, from the first one on, have the right one.
void seal_rows(std::uint8_t* rows, std::size_t count, std::size_t row_size);
std::size_t count_sound_rows(const std::uint8_t* rows, std::size_t count, std::size_t row_size);

}  // namespace bebr
