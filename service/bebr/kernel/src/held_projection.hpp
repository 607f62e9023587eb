// A projection as it comes from Python.
#pragma once

#include "bindings.hpp"
#include "projection.hpp"

namespace bebr {

// Keeps the arrays of a projection alive.
class HeldProjection {
public:
    HeldProjection(const Layout& layout, const Matrix<const float>& matrix, const Optional<std::int64_t>& of,
                   const Optional<float>& factors, const Vector<const float>& steps)
        : layout_(layout), matrix_(matrix), of_(of), factors_(factors), steps_(steps) {}

    Projection view() const {
        return {&layout_, matrix_.data(), matrix_.shape(0), matrix_.shape(1), of_ ? of_->data() : nullptr,
                factors_ ? factors_->data() : nullptr, steps_.data()};
    }

private:
    Layout layout_;
    Matrix<const float> matrix_;
    Optional<std::int64_t> of_;
    Optional<float> factors_;
    Vector<const float> steps_;
};

}  // namespace bebr
