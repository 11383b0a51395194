#include "app/index_export.hpp"

#include <cstdio>
#include <memory>
#include <vector>

#include "app/claim_output.hpp"
#include "app/copy_vectors.hpp"
#include "io/faiss_writer.hpp"
#include "io/vector_source.hpp"
#include "rank/index_check.hpp"

namespace mpishards::app {

namespace {

std::unique_ptr<io::VectorSource> open_rows(const std::string& directory, const io::IndexManifest& index) {
  const std::vector<io::InputSpec> files = io::index_inputs(directory, index);
  for (const io::InputSpec& file : files) io::probe_in_child(file);
  return io::open_sources(files);
}

void say_codes_stay(const std::string& directory, const io::IndexManifest& index) {
  if (index.codes.codec.empty()) return;
  std::fprintf(stderr,
               "mpishards: warning: the codes %s of %s stay behind: the rows themselves are written\n",
               index.codes.codec.c_str(), directory.c_str());
}

}  // namespace

void say_unit_length(const std::string& out_path) {
  std::fprintf(
      stderr,
      "mpishards: warning: FAISS has no cosine: the rows in %s get length 1 and are compared by inner "
      "product; give queries length 1, too\n",
      out_path.c_str());
}

io::IndexManifest export_index(const std::string& directory, const std::string& out_path, bool overwrite) {
  const io::IndexManifest index = io::read_index(directory);
  const io::OutputLock lock = claim_output({out_path, {out_path}, {directory}});
  if (!overwrite) refuse_existing({out_path});
  const io::IndexLists lists = io::read_lists(directory, index);
  const std::unique_ptr<io::VectorSource> rows = open_rows(directory, index);
  const bool unit_length = index.metric == Metric::cosine;
  const Metric metric = unit_length ? Metric::ip : index.metric;
  say_codes_stay(directory, index);
  if (unit_length) say_unit_length(out_path);
  const std::unique_ptr<io::VectorWriter> writer =
      lists.centroids.rows() > 0 ? io::create_faiss_lists(out_path, metric, lists)
                                 : io::create_faiss_flat(out_path, metric, index.rows, index.d, true);
  const CopiedHashes hashes = copy_vectors({.source = *rows,
                                            .rows = {0, index.rows},
                                            .dtype = DType::f32,
                                            .with_ids = true,
                                            .unit_length = unit_length},
                                           *writer);
  rank::require_undamaged(directory, index, false, hashes.rows, hashes.ids);
  writer->close();
  return index;
}

}  // namespace mpishards::app
