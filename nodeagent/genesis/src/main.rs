//! `margay-genesis`: builds the discovery image into a folder.

use std::path::PathBuf;

use clap::Parser;

/// Builds the kernel and the initramfs that unknown machines boot.
#[derive(Parser)]
#[command(name = "margay-genesis", version)]
struct Options {
    /// Folder for what is downloaded and unpacked once.
    #[arg(long)]
    cache: PathBuf,
    /// The static agent (`margay-agent`); without it the image only lists its devices and powers off.
    #[arg(long)]
    agent: Option<PathBuf>,
    /// A statically linked busybox.
    #[arg(long, default_value = "/bin/busybox")]
    busybox: PathBuf,
    /// The distribution's meta package of its current generic kernel.
    #[arg(long, default_value = genesis::kernel::META_PACKAGE)]
    kernel_package: String,
    /// Where `vmlinuz` and `initrd` are written.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let kernel = genesis::kernel::fetch(&options.cache, &options.kernel_package)?;
    let recipe = genesis::Recipe { kernel, agent: options.agent, busybox: options.busybox };
    let image = recipe.build(&options.out)?;
    println!("kernel    {} ({} bytes)", image.kernel.display(), image.kernel_bytes);
    println!(
        "initramfs {} ({} bytes, {} modules)",
        image.initramfs.display(),
        image.initramfs_bytes,
        image.modules
    );
    Ok(())
}
