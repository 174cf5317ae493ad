# find_package(ppo_fast): what a native environment of your own is compiled with.
#
#   find_package(ppo_fast REQUIRED)
#   ppo_fast_add_env(my_env my_env.cpp)   # a file that includes <ppo_fast/env.h>
#
# makes a shared library for ppo_fast.envs.load("libmy_env.so"). It needs neither Python nor pybind11.
# Configure with -Dppo_fast_DIR=<the directory that `ppo-fast info` prints under cmake>.
include_guard()

get_filename_component(PPO_FAST_ROOT "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

if(NOT TARGET ppo_fast::env)
  add_library(ppo_fast::env INTERFACE IMPORTED)
  target_include_directories(ppo_fast::env INTERFACE "${PPO_FAST_ROOT}/include")
  target_compile_features(ppo_fast::env INTERFACE cxx_std_20)
  if(MSVC)
    target_compile_options(ppo_fast::env INTERFACE /fp:precise)
  else()
    # Results must not depend on whether the processor has FMA.
    target_compile_options(ppo_fast::env INTERFACE -ffp-contract=off -fno-math-errno
                           -fno-trapping-math -fno-tree-slp-vectorize)
  endif()
endif()

function(ppo_fast_add_env name)
  add_library(${name} MODULE ${ARGN})
  target_link_libraries(${name} PRIVATE ppo_fast::env)
  set_target_properties(${name} PROPERTIES CXX_VISIBILITY_PRESET hidden)
endfunction()
