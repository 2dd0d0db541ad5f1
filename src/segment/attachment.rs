//! What every handle tells of its attachment.

/// The methods of a handle to a structure that concern its attachment, for a type whose segment is
/// `self.$segment`.
macro_rules! attachment {
    (impl [$($generics:tt)*] $handle:ty, $($segment:tt)+) => {
        /// The attachment.
        impl<$($generics)*> $handle {
            /// The name to open it by; `None` for an anonymous one and one from a descriptor.
            pub fn name(&self) -> Option<&str> {
                self.$($segment)+.name()
            }

            /// The file of the segment, if it was created or opened by name.
            pub fn path(&self) -> Option<std::path::PathBuf> {
                self.$($segment)+.path()
            }

            /// A random number that was drawn when the segment was created: equal for all who are attached
            /// to it, and different for every other segment, also a later one of the same name.
            pub fn instance_id(&self) -> u128 {
                self.$($segment)+.header().instance_id()
            }

            /// Whether the name still leads to this segment. `false` once somebody has unlinked or replaced
            /// it: this handle goes on in the old one, which newcomers do not see. Also `false` where another
            /// directory stands in front of it, perhaps for this process alone (`chroot`, a mount namespace), and
            /// where the system does not tell. Always `true` without a name.
            pub fn is_current(&self) -> bool {
                self.$($segment)+.is_current()
            }

            /// Whether this handle was opened with `read_only(true)`.
            pub fn is_read_only(&self) -> bool {
                self.$($segment)+.access() == crate::sync::Access::ReadOnly
            }

            /// Length of the segment in bytes, all of it reserved. (Of a `StreamDict` that of its control:
            /// `status` has the rest.)
            pub fn bytes(&self) -> u64 {
                self.$($segment)+.header().bytes
            }

            /// Who has an identity in this segment, alive or dead; see
            /// [`Options::participants`](crate::Options::participants). For tools and for the curious.
            ///
            /// # Errors
            /// [`ParticipantError`](crate::ParticipantError), where it cannot be told who lives.
            pub fn participants(&self) -> Result<Vec<crate::Participant>, crate::ParticipantError> {
                self.$($segment)+.participants()
            }
        }
    };
}
pub(crate) use attachment;

/// What else there is of a handle with a field `table` that is [`Pinned`](super::Pinned), and to whose segment
/// nothing else belongs.
macro_rules! alone {
    (impl [$($generics:tt)*] $handle:ty) => {
        /// The end of the attachment.
        impl<$($generics)*> $handle {
            /// Drops this handle, with the error that a plain drop has nobody to tell.
            ///
            /// `Ok` means that what was to be done was done: nothing while others share the attachment
            /// (clones, entries), nor in any other process than the creator; else the name was taken away if
            /// [`unlink_on_drop`](crate::Options::unlink_on_drop) asked for that and it still led here.
            ///
            /// # Errors
            /// Why the name could not be taken away.
            pub fn close(self) -> Result<(), crate::UnlinkError> {
                self.table
                    .into_segment()
                    .map_or(Ok(()), |segment| segment.close())
            }
        }

        /// The descriptor of the segment, to hand it to another process. Linux only.
        ///
        /// Not for programs that have closed all their descriptors behind the handle's back: the number may
        /// be another file's since.
        ///
        /// It is close-on-exec: give a spawned program a copy, for instance as its standard input
        /// (`Stdio::from(handle.as_fd().try_clone_to_owned()?)`), and let it call
        /// [`Options::from_fd`](crate::Options::from_fd). The example `spawn` shows it whole.
        #[cfg(all(target_os = "linux", not(feature = "portable")))]
        impl<$($generics)*> std::os::fd::AsFd for $handle {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.table.segment().as_fd()
            }
        }
    };
}
pub(crate) use alone;
