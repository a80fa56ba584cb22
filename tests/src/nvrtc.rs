//! NVIDIA's compiler for CUDA C++ as a library, with the headers that kernels include. It needs no GPU.

use libloading::{Library, Symbol};
use purview_nvidia::toolchain::data_directory;
use std::ffi::{CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;

/// The compiler, loaded.
pub struct Nvrtc {
    library: Library,
    /// What the compiler loads by itself, and finds only where it is loaded already.
    _builtins: Library,
    directory: PathBuf,
}

type Program = *mut c_void;
type Create = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Get = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;

/// The libraries, in the directory `lib`: the one that is called, and what it loads.
const LIBRARIES: [&str; 2] = ["libnvrtc.so.13", "libnvrtc-builtins.so.13.5"];
/// Where headers are.
const INCLUDES: [&str; 2] = ["include", "include/cccl"];
/// `NVRTC_SUCCESS`.
const SUCCESS: c_int = 0;

impl Nvrtc {
    /// The compiler that `./x test --gpu-toolchains` fetches. `None` where it is not, which is said out loud, and is an error on a machine
    /// whose environment has `CI=1`.
    pub fn load(test: &str) -> Option<Nvrtc> {
        let directory = data_directory().map(|data| data.join("nvrtc")).unwrap_or_default();
        let missing = match Nvrtc::of(&directory) {
            Ok(nvrtc) => return Some(nvrtc),
            Err(error) => {
                format!("no NVRTC in {} (`./x test --gpu-toolchains` fetches it): {error}", directory.display())
            }
        };
        assert_ne!(std::env::var("CI").as_deref(), Ok("1"), "{test}: {missing}");
        eprintln!("{test}: SKIPPED: {missing}");
        None
    }

    fn of(directory: &Path) -> Result<Nvrtc, libloading::Error> {
        // SAFETY: NVIDIA's libraries do nothing when they are loaded but to fill their own tables.
        let load = |name: &str| unsafe { Library::new(directory.join("lib").join(name)) };
        let builtins = load(LIBRARIES[1])?;
        Ok(Nvrtc { library: load(LIBRARIES[0])?, _builtins: builtins, directory: directory.into() })
    }

    /// What decides of its outputs beside the source: the libraries and the directories of headers, which `tools/setup` replaces whole.
    pub fn files(&self) -> Vec<PathBuf> {
        let libraries = LIBRARIES.iter().map(|name| self.directory.join("lib").join(name));
        libraries.chain(INCLUDES.map(|include| self.directory.join(include))).collect()
    }

    /// The options with which sources are compiled for `architecture`: `sm_80`.
    pub fn options(&self, architecture: &str) -> Vec<String> {
        let includes = INCLUDES.map(|include| format!("--include-path={}", self.directory.join(include).display()));
        std::iter::once(format!("--gpu-architecture={architecture}")).chain(includes).collect()
    }

    /// The PTX of `source`, CUDA C++, for `architecture`: `sm_80`.
    ///
    /// # Errors
    /// What the compiler says.
    pub fn compile(&self, source: &str, architecture: &str) -> Result<String, String> {
        let string = |text: &str| CString::new(text).map_err(|error| error.to_string());
        let options: Vec<CString> =
            self.options(architecture).iter().map(|option| string(option)).collect::<Result<_, _>>()?;
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let source = string(source)?;
        let mut program = null_mut();
        // SAFETY: the types are those of `nvrtc.h`, strings end in zero and outlive the calls, and the program is destroyed once.
        unsafe {
            let create: Symbol<Create> = self.symbol(b"nvrtcCreateProgram")?;
            let created = create(&mut program, source.as_ptr(), null_mut(), 0, null_mut(), null_mut());
            if created != SUCCESS {
                return Err(format!("nvrtcCreateProgram gave {created}"));
            }
            let compile: Symbol<Compile> = self.symbol(b"nvrtcCompileProgram")?;
            let result = match compile(program, pointers.len() as c_int, pointers.as_ptr()) {
                SUCCESS => self.text(program, b"nvrtcGetPTXSize", b"nvrtcGetPTX"),
                _ => Err(self.text(program, b"nvrtcGetProgramLogSize", b"nvrtcGetProgramLog")?),
            };
            let destroy: Symbol<Destroy> = self.symbol(b"nvrtcDestroyProgram")?;
            destroy(&mut program);
            result
        }
    }

    /// # Safety
    /// `T` must be the type of the function `name`.
    unsafe fn symbol<T>(&self, name: &[u8]) -> Result<Symbol<'_, T>, String> {
        // SAFETY: as the caller says.
        unsafe { self.library.get(name) }.map_err(|error| error.to_string())
    }

    /// A text of `program`, whose size and characters the two functions give.
    ///
    /// # Safety
    /// `program` must be one, and the functions must be of the types [`Size`] and [`Get`].
    unsafe fn text(&self, program: Program, size: &[u8], get: &[u8]) -> Result<String, String> {
        // SAFETY: as the caller says; the buffer has the size that the first function asks for.
        unsafe {
            let (size, get): (Symbol<Size>, Symbol<Get>) = (self.symbol(size)?, self.symbol(get)?);
            let mut bytes = 0;
            let sized = size(program, &mut bytes);
            let mut text = vec![0u8; bytes];
            let got = get(program, text.as_mut_ptr().cast());
            if (sized, got) != (SUCCESS, SUCCESS) {
                return Err(format!("NVRTC gave {sized} and {got} for a text"));
            }
            Ok(String::from_utf8_lossy(&text).trim_end_matches('\0').into())
        }
    }
}
