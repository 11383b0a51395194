#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "core/metric.hpp"
#include "core/types.hpp"
#include "io/input_spec.hpp"

namespace mpishards::io {

/// Writes a rows x cols matrix to a file of any known vector format, front to back. The file is written as
/// PATH.partial and takes its name in close(); without close() nothing is left behind.
class VectorWriter {
 public:
  virtual ~VectorWriter() = default;
  /// Appends rows. @param data rows * cols elements of the writer's dtype, native byte order @throws
  /// Error{io}
  virtual void append(const std::byte* data, std::int64_t rows) = 0;
  /// Appends ids of the rows, in a pace of their own. @pre the file was created with ids @throws Error{io}
  virtual void append_ids(std::span<const GlobalId> ids) = 0;
  /// Flushes to disk and renames into place. @pre exactly the announced rows, and ids, were appended
  virtual void close() = 0;
};

/// @param overwrite  without it an existing file is Error{cannot_create}
/// @param with_ids   the file gets ids: a data set `ids` beside the vectors, an IndexIDMap2
/// @param metric     that a FAISS file carries, l2 or ip; nothing to other formats
/// @throws Error{usage} where the format can't hold the dtype (.fvecs is f32, .bvecs u8, .u8bin u8 ...)
/// @pre !with_ids or can_hold_ids(out.path)
std::unique_ptr<VectorWriter> create_vector_file(const InputSpec& out, std::int64_t rows, std::int64_t cols,
                                                 DType dtype, bool overwrite, bool with_ids = false,
                                                 Metric metric = Metric::l2);

/// Whether a file of this suffix has a place for ids beside the vectors: HDF5 and FAISS files do.
bool can_hold_ids(const std::string& path);

/// dtype that a suffix implies (.fvecs f32, .u8bin u8, ...); `otherwise` for .npy and HDF5.
DType implied_dtype(const std::string& path, DType otherwise);

}  // namespace mpishards::io
