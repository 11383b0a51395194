#include "io/vector_source_registry.hpp"

#include <algorithm>
#include <cctype>
#include <vector>

#include "core/error.hpp"
#include "io/faiss_source.hpp"
#include "io/hdf5_source.hpp"
#include "io/index_directory.hpp"
#include "io/npy_source.hpp"
#include "io/xbin_source.hpp"
#include "io/xvecs_source.hpp"

namespace mpishards::io {

namespace {

const SuffixRow kSuffixes[] = {
    {{".h5", "hdf5", "HDF5, FILE:DATASET, any numeric type, contiguous or chunked"}, {}, open_hdf5},
    {{".hdf5", "hdf5", "the same"}, {}, open_hdf5},
    {{".he5", "hdf5", "the same"}, {}, open_hdf5},
    {{".hdf", "hdf5", "the same"}, {}, open_hdf5},
    {{".fbin", "xbin", "big-ann float32: uint32 n, uint32 d, rows"}, DType::f32, open_xbin},
    {{".u8bin", "xbin", "big-ann uint8"}, DType::u8, open_xbin},
    {{".i8bin", "xbin", "big-ann int8"}, DType::i8, open_xbin},
    {{".ibin", "xbin", "big-ann int32 ids"}, DType::i32, open_xbin},
    {{".fvecs", "xvecs", "TEXMEX float32: int32 d before every row"}, DType::f32, open_xvecs},
    {{".bvecs", "xvecs", "TEXMEX uint8"}, DType::u8, open_xvecs},
    {{".ivecs", "xvecs", "TEXMEX int32 ids"}, DType::i32, open_xvecs},
    {{".npy", "npy", "NumPy array of two dimensions in C order"}, {}, open_npy},
    {{".index", "faiss", "FAISS IndexFlat or IndexIVFFlat, alone or in an IndexIDMap"},
     DType::f32,
     open_faiss},
    {{".faiss", "faiss", "the same"}, DType::f32, open_faiss},
};

const SuffixRow* find_suffix(std::string path) {
  std::transform(path.begin(), path.end(), path.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const SuffixRow& row : kSuffixes)
    if (path.ends_with(row.format.suffix)) return &row;
  return nullptr;
}

}  // namespace

const SuffixRow& suffix_row_of(const std::string& path) {
  if (is_index_directory(path))
    throw Error(ErrorKind::usage, path +
                                      " is an index directory: mpishards search takes it, alone, as its "
                                      "--base, and mpishards convert, which writes a FAISS file of it; "
                                      "elsewhere name its shard files or what it was built from");
  if (const SuffixRow* row = find_suffix(path)) return *row;
  std::string known;
  for (const SuffixRow& row : kSuffixes) known.append(" ").append(row.format.suffix);
  throw Error(ErrorKind::usage, path + ": the suffix names no known vector format; known:" + known);
}

std::string_view format_of(const std::string& path) {
  const SuffixRow* row = find_suffix(path);
  return row == nullptr ? std::string_view() : row->format.format;
}

bool is_hdf5_path(const std::string& path) {
  return format_of(path) == "hdf5";
}

std::span<const FormatRow> vector_formats() {
  static const std::vector<FormatRow> rows = [] {
    std::vector<FormatRow> formats;
    for (const SuffixRow& row : kSuffixes) formats.push_back(row.format);
    return formats;
  }();
  return rows;
}

}  // namespace mpishards::io
