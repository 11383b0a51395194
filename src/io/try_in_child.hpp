#pragma once

#include <functional>
#include <string>

namespace mpishards::io {

/// Takes a step in a forked child first: damaged HDF5 files can bring the library down, or keep it busy for
/// ever.
/// @param subject  what the step opens, for messages
/// @throws the step's own Error; Error{data} where the child crashes or takes longer than 20 s
/// @pre the caller does not hold the Hdf5Lock
/// @par Cost  a fork and the step
void try_in_child(const std::string& subject, const std::function<void()>& step);

}  // namespace mpishards::io
