# LibTorch is the pinned PyTorch wheel (2.11.0, C++11 ABI). Its libraries are imported by hand: find_package(Torch)
# probes for a CUDA toolkit and a GPU, and fails on a machine that has only one of them (or neither).
#   P2_VENV: a Python environment that holds the wheel; scripts/bootstrap makes one in .venv.
set(P2_VENV "${CMAKE_SOURCE_DIR}/.venv" CACHE PATH "Python environment that holds the torch wheel")
file(GLOB _torch_dirs "${P2_VENV}/lib/python3*/site-packages/torch")
if(NOT _torch_dirs)
  message(FATAL_ERROR "no torch wheel under P2_VENV=${P2_VENV}: run scripts/bootstrap, or pass -DP2_VENV=DIR")
endif()
list(GET _torch_dirs 0 P2_TORCH_DIR)
get_filename_component(P2_SITE_PACKAGES "${P2_TORCH_DIR}" DIRECTORY)

add_library(p2_torch INTERFACE)
add_library(p2::torch ALIAS p2_torch)
target_include_directories(p2_torch SYSTEM INTERFACE
  "${P2_TORCH_DIR}/include" "${P2_TORCH_DIR}/include/torch/csrc/api/include"
  "${P2_SITE_PACKAGES}/nvidia/cu13/include" "${P2_SITE_PACKAGES}/nvidia/nccl/include")
# The backends that the wheel was built with; gloo's headers come from Debian's libgloo-dev, its code is in libtorch_cpu.
target_compile_definitions(p2_torch INTERFACE USE_C10D_GLOO USE_C10D_NCCL USE_DISTRIBUTED)
# libtorch_cuda and libc10_cuda are named although nothing calls them directly: NCCL's classes live there.
target_link_libraries(p2_torch INTERFACE
  "${P2_TORCH_DIR}/lib/libtorch.so" "${P2_TORCH_DIR}/lib/libtorch_cpu.so" "${P2_TORCH_DIR}/lib/libc10.so"
  "${P2_TORCH_DIR}/lib/libtorch_cuda.so" "${P2_TORCH_DIR}/lib/libc10_cuda.so")
target_link_options(p2_torch INTERFACE "LINKER:--no-as-needed" "LINKER:-rpath,${P2_TORCH_DIR}/lib"
  "LINKER:--allow-shlib-undefined")

# <torch/torch.h> takes 20 to 30 s to parse; every torch target shares this one precompiled copy.
file(WRITE "${CMAKE_BINARY_DIR}/p2_torch_pch.cc.in" "// Anchors the precompiled header of the torch targets.\n")
configure_file("${CMAKE_BINARY_DIR}/p2_torch_pch.cc.in" "${CMAKE_BINARY_DIR}/p2_torch_pch.cc" COPYONLY)
add_library(p2_torch_pch STATIC "${CMAKE_BINARY_DIR}/p2_torch_pch.cc")
target_link_libraries(p2_torch_pch PUBLIC p2_torch PRIVATE p2_warnings)
target_include_directories(p2_torch_pch PUBLIC "${CMAKE_SOURCE_DIR}")
target_precompile_headers(p2_torch_pch PRIVATE <torch/torch.h>)
