#include "io/xbin_source.hpp"

#include <array>
#include <string>

#include "core/error.hpp"
#include "io/vector_source_contiguous.hpp"

namespace mpishards::io {

namespace {

constexpr std::int64_t kHeaderBytes = 8;

}  // namespace

std::unique_ptr<VectorSource> open_xbin(const InputSpec& spec, std::optional<DType> dtype) {
  File file = open_data_file(spec.path);
  const std::int64_t size = file.size_bytes();
  if (size < kHeaderBytes)
    throw Error(ErrorKind::data, spec.path + " has " + std::to_string(size) +
                                     " bytes, expected a header of 8 (uint32 n, uint32 d)");
  std::array<std::uint32_t, 2> header{};
  file.read_at(0, header.data(), sizeof(header));

  ContiguousSource::Layout layout;
  layout.offset = kHeaderBytes;
  layout.rows = header[0];
  layout.cols = header[1];
  layout.dtype = dtype.value();
  const std::int64_t bytes = matrix_bytes(spec.path, layout.rows, layout.cols, layout.dtype);
  const std::int64_t found = size - kHeaderBytes;
  const bool has_distances = layout.dtype == DType::i32 && found % 2 == 0 && found / 2 == bytes;
  if (has_distances) layout.words = "contiguous ids, then float32 distances";
  if (found != bytes && !has_distances)
    throw Error(ErrorKind::data,
                spec.path + ": the header says " + shape_text(layout.rows, layout.cols, layout.dtype) + " (" +
                    std::to_string(bytes) + " bytes), but " + std::to_string(found) +
                    " bytes follow it; the file is " + (found < bytes ? "truncated" : "longer than that") +
                    " or its suffix names the wrong dtype");
  return std::make_unique<ContiguousSource>(std::move(file), spec.path, "xbin", std::move(layout));
}

}  // namespace mpishards::io
