//! Loop devices, by ioctl: numbers and layouts are those of `linux/loop.h`.
#![allow(unsafe_code, reason = "ioctls take structures whose layout only we can vouch for")]

use std::ffi::{OsStr, c_void};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::ioctl::{Getter, Ioctl, IoctlOutput, NoArg, Opcode, Setter, ioctl};

const GET_FREE: u32 = 0x4c82;
const CONFIGURE: u32 = 0x4c0a;
const SET_CAPACITY: u32 = 0x4c07;
const CLR_FD: u32 = 0x4c01;
const GET_STATUS64: u32 = 0x4c05;

/// `LO_FLAGS_READ_ONLY`.
const READ_ONLY: u32 = 1;
/// `LO_FLAGS_AUTOCLEAR`.
const AUTOCLEAR: u32 = 4;

/// How long a device has its file, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// Until the last who has it open or mounted has not any more.
    WhileUsed,
    /// Until it is freed.
    UntilFreed,
    /// The same, and nobody can write to it.
    ReadOnly,
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    /// `struct loop_info64`, from its beginning to `lo_flags`.
    info_before: [u64; 6],
    encrypt_key_size: u32,
    flags: u32,
    info_after: [u64; 22],
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Config>() == 304);

/// `struct loop_info64`, as far as it says which file is behind a device.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rest: [u64; 27],
}

const _: () = assert!(size_of::<Info>() == 232);

/// Which file something is, whatever it is called and wherever it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId {
    major: u32,
    minor: u32,
    inode: u64,
}

impl FileId {
    /// The file at `path`.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        let (device, inode) = (meta.dev(), meta.ino());
        Ok(Self { major: rustix::fs::major(device), minor: rustix::fs::minor(device), inode })
    }

    /// As the kernel says it: twelve bits of the major number lie between eight and twelve of the minor one.
    fn from_kernel(device: u64, inode: u64) -> Self {
        let part = |bits: u64| u32::try_from(bits).unwrap_or(u32::MAX);
        let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00));
        Self { major: part(major), minor: part(minor), inode }
    }
}

/// The number of a device that is free, for a moment.
struct GetFree;

// SAFETY: LOOP_CTL_GET_FREE takes no argument, and returns the number.
unsafe impl Ioctl for GetFree {
    type Output = IoctlOutput;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        GET_FREE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<IoctlOutput> {
        Ok(out)
    }
}

/// A device with a file behind it, open.
#[derive(Debug)]
pub(crate) struct Loop {
    pub(crate) path: PathBuf,
    file: File,
}

/// Puts `image` behind a device that nobody has.
pub(crate) fn attach(image: &Path, lasting: Lasting) -> io::Result<Loop> {
    let backing = OpenOptions::new().read(true).write(lasting != Lasting::ReadOnly).open(image)?;
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    let fd = u32::try_from(backing.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
    for _ in 0..64 {
        // SAFETY: it takes no argument.
        let number = unsafe { ioctl(&control, GetFree) }?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let config = Config {
            fd,
            block_size: 0,
            info_before: [0; 6],
            encrypt_key_size: 0,
            flags: match lasting {
                Lasting::WhileUsed => AUTOCLEAR,
                Lasting::UntilFreed => 0,
                Lasting::ReadOnly => READ_ONLY,
            },
            info_after: [0; 22],
            reserved: [0; 8],
        };
        // SAFETY: LOOP_CONFIGURE reads a `loop_config`, whose size is checked above; `backing` is open meanwhile.
        match unsafe { ioctl(&file, Setter::<CONFIGURE, _>::new(config)) } {
            // Somebody else was faster.
            Err(rustix::io::Errno::BUSY) => {}
            done => {
                done?;
                return checked(Loop { path, file }, image);
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "every loop device that was free was taken meanwhile"))
}

/// The file behind an open device; `None` if there is none.
fn behind_open(device: &File) -> io::Result<Option<FileId>> {
    // SAFETY: LOOP_GET_STATUS64 writes a `loop_info64`, whose size is checked above.
    match unsafe { ioctl(device, Getter::<GET_STATUS64, Info>::new()) } {
        Ok(info) => Ok(Some(FileId::from_kernel(info.device, info.inode))),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether the device really has `image` behind it, before anything is read from it or written to it.
fn checked(device: Loop, image: &Path) -> io::Result<Loop> {
    if behind_open(&device.file).is_ok_and(|found| found.is_some() && found == FileId::of(image).ok()) {
        return Ok(device);
    }
    let _ = device.detach();
    Err(io::Error::other("the loop device has another file behind it"))
}

impl Loop {
    /// The device at `path`, which has `image` behind it.
    pub(crate) fn open(path: &Path, image: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        // The very device that is open: it may have got another file since somebody looked.
        if behind_open(&file)? == Some(FileId::of(image)?) {
            return Ok(Self { path: path.to_path_buf(), file });
        }
        Err(io::Error::other("the loop device has another file behind it"))
    }

    /// Makes the device as large as the file has become.
    pub(crate) fn refresh(&self) -> io::Result<()> {
        // SAFETY: LOOP_SET_CAPACITY takes no argument.
        Ok(unsafe { ioctl(&self.file, NoArg::<SET_CAPACITY>::new()) }?)
    }

    /// Writes to the file what is in the device's own cache.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Takes the file away, at the latest when nobody has the device any more.
    pub(crate) fn detach(&self) -> io::Result<()> {
        // SAFETY: LOOP_CLR_FD takes no argument.
        match unsafe { ioctl(&self.file, NoArg::<CLR_FD>::new()) } {
            Err(rustix::io::Errno::NXIO) => Ok(()),
            done => Ok(done?),
        }
    }
}

/// The file that `device` has behind it: by what it is, for its name may be another one where we look.
pub(crate) fn file_of(device: &Path) -> Option<FileId> {
    let name = device.file_name()?;
    // What has no file behind it is not even opened, nor is what is no loop device.
    if !Path::new("/sys/block").join(name).join("loop").exists() {
        return None;
    }
    match File::open(Path::new("/dev").join(name)) {
        Ok(file) => behind_open(&file).ok()?,
        // Where the device itself is not shown, there is only the name of its file.
        Err(_) => FileId::of(&named_behind(name)?).ok(),
    }
}

/// What the file behind a device was called when it came there.
fn named_behind(device: &OsStr) -> Option<PathBuf> {
    let text = fs::read_to_string(Path::new("/sys/block").join(device).join("loop/backing_file")).ok()?;
    Some(PathBuf::from(text.strip_suffix('\n').unwrap_or(&text)))
}

/// Whether nobody can write to `device`.
pub(crate) fn is_read_only(device: &Path) -> bool {
    is_set(device, "ro")
}

/// Whether `device` is freed as soon as nobody has it open: it may have another file behind it then.
pub(crate) fn is_going(device: &Path) -> bool {
    is_set(device, "loop/autoclear")
}

fn is_set(device: &Path, attribute: &str) -> bool {
    let read = |name| fs::read_to_string(Path::new("/sys/block").join(name).join(attribute));
    device.file_name().is_some_and(|name| read(name).is_ok_and(|text| text.trim() == "1"))
}

/// Whether the kernel says that `device` has `image` behind it. Its name says nothing.
pub(crate) fn is_behind(image: &Path, device: &Path) -> bool {
    FileId::of(image).is_ok_and(|image| file_of(device) == Some(image))
}

/// The devices that have `image` behind them; none if there is no such file.
pub(crate) fn of(image: &Path) -> io::Result<Vec<PathBuf>> {
    let image = match FileId::of(image) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        image => image?,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let device = Path::new("/dev").join(entry?.file_name());
        if file_of(&device) == Some(image) {
            found.push(device);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel encodes it.
    fn told(of: FileId) -> FileId {
        let (major, minor) = (u64::from(of.major), u64::from(of.minor));
        FileId::from_kernel((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12), of.inode)
    }

    #[test]
    fn pitfall_12_a_device_is_told_by_the_file_behind_it_and_not_by_a_name() {
        let directory = tempfile::tempdir().unwrap();
        let [ours, beside, moved] = ["data", "beside", "moved"].map(|name| directory.path().join(name));
        fs::write(&ours, "content").unwrap();
        fs::write(&beside, "content").unwrap();
        let behind = told(FileId::of(&ours).unwrap());
        assert_eq!(behind, FileId::of(&ours).unwrap());
        assert_ne!(behind, FileId::of(&beside).unwrap());
        // It may have been renamed since, and something else may have its name.
        fs::rename(&ours, &moved).unwrap();
        fs::write(&ours, "content").unwrap();
        assert_eq!(behind, FileId::of(&moved).unwrap());
        assert_ne!(behind, FileId::of(&ours).unwrap());
        assert!(FileId::of(&directory.path().join("missing")).is_err());
    }

    #[test]
    fn numbers_of_devices_are_read_as_the_kernel_writes_them() {
        for (major, minor) in [(0, 0), (7, 3), (8, 255), (8, 256), (259, 1_048_575), (4095, 65_536)] {
            let of = FileId { major, minor, inode: 256 };
            assert_eq!(told(of), of);
        }
        let other = FileId { major: 0, minor: 1, inode: 1 };
        assert_ne!(FileId::from_kernel(0, 1), other);
    }

    #[test]
    fn what_is_no_loop_device_has_nothing_behind_it() {
        for device in ["/dev/null", "/dev/sda", "/dev/loop-control", "/dev/nothing", "/"] {
            assert_eq!(file_of(Path::new(device)), None, "{device}");
        }
    }
}
