#include "io/partial_file.hpp"

#include <unistd.h>

#include "io/result_files.hpp"

namespace mpishards::io {

PartialFile::PartialFile(std::string path)
    : path_(std::move(path)), file_(File::open_write(partial_of(path_), true)) {}

PartialFile::~PartialFile() {
  if (!path_.empty()) ::unlink(partial().c_str());
}

std::string PartialFile::partial() const {
  return partial_of(path_);
}

void PartialFile::publish() {
  file_.sync();
  file_.close();
  io::publish(partial(), path_);
  path_.clear();
}

}  // namespace mpishards::io
