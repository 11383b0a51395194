#pragma once

#include "app/command.hpp"

namespace mpishards::app {

int run_graph(const Arguments& arguments, const comm::Communicator& world);
int run_search(const Arguments& arguments, const comm::Communicator& world);
int run_range(const Arguments& arguments, const comm::Communicator& world);
int run_join(const Arguments& arguments, const comm::Communicator& world);
int run_build(const Arguments& arguments, const comm::Communicator& world);
int run_serve(const Arguments& arguments, const comm::Communicator& world);
int run_ping(const Arguments& arguments, const comm::Communicator& world);
int run_query(const Arguments& arguments, const comm::Communicator& world);
int run_merge(const Arguments& arguments, const comm::Communicator& world);
int run_convert(const Arguments& arguments, const comm::Communicator& world);
int run_info(const Arguments& arguments, const comm::Communicator& world);
int run_eval(const Arguments& arguments, const comm::Communicator& world);
int run_plan(const Arguments& arguments, const comm::Communicator& world);
int run_doctor(const Arguments& arguments, const comm::Communicator& world);
int run_bench(const Arguments& arguments, const comm::Communicator& world);
int run_version(const Arguments& arguments, const comm::Communicator& world);

}  // namespace mpishards::app
