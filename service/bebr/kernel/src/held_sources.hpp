// Where the rescore records of the rows of parts lie, as it comes from Python.
#pragma once

#include <utility>

#include "bindings.hpp"
#include "dispatch.hpp"
#include "layout.hpp"
#include "rescore.hpp"
#include "row_file.hpp"

namespace bebr {

// What became of reading rows: kAllRead, kNotInMemory, or the place of the row that could not be read; and errno.
using RowsRead = std::pair<std::int64_t, int>;
constexpr std::int64_t kAllRead = -1, kNotInMemory = -2;
constexpr std::int32_t kNoSource = -1;

// It keeps the files and arrays alive.
class HeldSources {
public:
    // source_at: for each part, by its place, the number of the file that has its records; kNoSource: there are none;
    // below that, the number of the array in memory that has them, from the end.
    HeldSources(const Layout& layout, std::size_t row_size, const nb::list& files,
                std::vector<Matrix<const std::uint8_t>> arrays, const std::vector<std::int32_t>& source_at)
        : layout_(layout), row_size_(row_size), held_(files), arrays_(std::move(arrays)), source_at_(source_at) {
        bool sound = true;
        for (const nb::handle file : files) {
            files_.push_back(nb::cast<RowFile*>(file));
            sound &= files_.back()->row_size == row_size;
        }
        for (const std::int64_t source : source_at)
            sound &= source < static_cast<std::int64_t>(files_.size()) &&
                     kNoSource - 1 - source < static_cast<std::int64_t>(arrays_.size());
        if (!sound) throw nb::value_error("a source of rows is not there, or has rows of another size");
    }

    // Adds to `scores` what the records of `count` candidates add, and counts them by query, unless counts is null;
    // query_of: null where there is one query only. Needs no interpreter.
    RowsRead add_scores(const RescoreQueries& queries, const std::int32_t* places, const std::int64_t* rows,
                        std::size_t count, const std::int32_t* query_of, bool waits, double* scores,
                        std::int64_t* counts) const {
        std::vector<std::int32_t> source_of(count);
        for (std::size_t i = 0; i < count; ++i) source_of[i] = source_at_.at(places[i]);
        std::vector<std::uint8_t> read(count * row_size_);
        try {
            if (!read_rows(files_, source_of.data(), rows, count, row_size_, waits, read.data()))
                return {kNotInMemory, 0};
        } catch (const DamagedRow& damage) {
            return {static_cast<std::int64_t>(damage.place), damage.error};
        }
        Rescorer rescorer(current_kernels(), layout_, queries);
        for (std::size_t i = 0; i < count; ++i) {
            const std::int32_t source = source_of[i], query = query_of ? query_of[i] : 0;
            if (source == kNoSource) continue;
            const std::uint8_t* record = read.data() + i * row_size_;
            if (source < kNoSource) {
                const auto& array = arrays_[kNoSource - 1 - source];
                record = array.data() + rows[i] * array.shape(1);
            }
            scores[i] += rescorer.score(query, record);
            if (counts) ++counts[query];
        }
        return {kAllRead, 0};
    }

private:
    const Layout layout_;
    const std::size_t row_size_;
    const nb::list held_;
    std::vector<RowFile*> files_;
    const std::vector<Matrix<const std::uint8_t>> arrays_;
    const std::vector<std::int32_t> source_at_;
};

}  // namespace bebr
