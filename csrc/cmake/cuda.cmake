# ppo_fast._cuda. PPO_FAST_CUDA=AUTO leaves it out with one line where nvcc is missing or unfit; ON makes that an error.
function(ppo_without_cuda reason)
  if(PPO_FAST_CUDA STREQUAL "ON")
    message(FATAL_ERROR "PPO_FAST_CUDA=ON, but ${reason}")
  endif()
  message(STATUS "Building without CUDA: ${reason}")
  set(PPO_CUDA_OFF "${reason}" PARENT_SCOPE)
endfunction()

include(CheckLanguage)
# all-major: every major architecture that the toolkit knows, and code for later ones.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  set(CMAKE_CUDA_ARCHITECTURES all-major)
  set(PPO_CHOSE_ARCHITECTURES ON)
endif()
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  ppo_without_cuda("there is no nvcc that works here")
  return()
endif()
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.2)
  ppo_without_cuda("nvcc is ${CMAKE_CUDA_COMPILER_VERSION}, and C++20 needs 12.2")
  return()
endif()
# Kernel parameters in constant memory need 70; all-major began with 50 then.
if(PPO_CHOSE_ARCHITECTURES AND CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13)
  set(CMAKE_CUDA_ARCHITECTURES 70 80 90)
endif()

find_package(CUDAToolkit)
if(NOT TARGET CUDA::cudart_static)
  ppo_without_cuda("there is no static CUDA runtime beside nvcc")
  return()
endif()

pybind11_add_module(_cuda MODULE NO_EXTRAS ${PPO_CUDA_BINDINGS}
  csrc/advantage/cuda.cu
  csrc/distributions/cuda.cu
  csrc/envs/cuda.cu
  csrc/surrogate/cuda.cu)
target_include_directories(_cuda PRIVATE csrc csrc/include)
target_link_libraries(_cuda PRIVATE CUDA::cudart_static)
# CMake before 3.26 knows no C++20 for nvcc 13 and drops it silently. Contraction is off as on the CPU: the same
# formulas give the same bits. Architectures are compiled side by side.
target_compile_options(_cuda PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20 --expt-relaxed-constexpr --fmad=false --threads=0>
  $<$<COMPILE_LANGUAGE:CXX>:${PPO_FLAGS}>)
set_target_properties(_cuda PROPERTIES
  CUDA_STANDARD_REQUIRED OFF CUDA_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden)
if(PPO_FAST_WERROR)
  target_compile_options(_cuda PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:--Werror=all-warnings -Xcompiler=-Wall,-Wextra,-Werror>
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Werror>)
endif()
list(JOIN CMAKE_CUDA_ARCHITECTURES " " PPO_CUDA_ARCHITECTURES)
set_source_files_properties(csrc/support/cuda_bind.cpp PROPERTIES COMPILE_DEFINITIONS
  "PPO_CUDA_ARCHITECTURES=\"${PPO_CUDA_ARCHITECTURES}\"")
install(TARGETS _cuda LIBRARY DESTINATION ppo_fast)
