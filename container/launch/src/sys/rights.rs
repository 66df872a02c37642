//! Descriptors handed to another program over a socket (`SCM_RIGHTS`, unix(7)).

use std::os::fd::{AsRawFd, BorrowedFd};

use super::message::{Ancillary, MOST, Message};
use super::raw::{Call, Errno, Kernel, Linux};

/// Sends `bytes`, which must be some, together with `descriptors`; gives how many bytes went. The descriptors go with the first.
///
/// # Errors
///
/// `EINVAL` for more descriptors than a message carries; `EPIPE` if nobody reads any more; `EAGAIN` if the socket has a time limit.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    const MSG_NOSIGNAL: i32 = 0x4000;
    if descriptors.len() > MOST {
        return Err(Errno::EINVAL);
    }
    loop {
        let mut ancillary = Ancillary::new();
        let numbers = descriptors.iter().map(AsRawFd::as_raw_fd);
        let mut message = Message::outgoing(bytes, numbers, &mut ancillary);
        match Linux.perform(Call::sendmsg(socket.as_raw_fd(), &mut message, MSG_NOSIGNAL)) {
            Err(Errno::EINTR) => {}
            answer => return answer,
        }
    }
}

/// Receives at most as many bytes as there is room for, and the descriptors that came with them; gives how many bytes.
///
/// # Errors
///
/// As `recvmsg(2)`; `EMFILE` if descriptors were lost because this program may not have so many.
pub fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<(usize, Vec<std::os::fd::OwnedFd>), Errno> {
    const MSG_CMSG_CLOEXEC: i32 = 0x4000_0000;
    let (length, used, truncated, ancillary) = loop {
        let mut ancillary = Ancillary::new();
        let mut message = Message::incoming(bytes, &mut ancillary);
        match Linux.perform(Call::recvmsg(socket.as_raw_fd(), &mut message, MSG_CMSG_CLOEXEC)) {
            Err(Errno::EINTR) => {}
            answer => {
                let (used, truncated) = (message.control_length(), message.truncated());
                break (answer?, used, truncated, ancillary);
            }
        }
    };
    let received = ancillary.descriptors(used).map(|number| super::process::owned(number as usize));
    let received = received.collect::<Result<Vec<_>, _>>()?;
    if truncated { Err(Errno::EMFILE) } else { Ok((length, received)) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_file_arrives_with_the_bytes() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        assert_eq!(send(ours.as_fd(), b"name", &[file.as_fd(), file.as_fd()]), Ok(4));
        let mut bytes = [0; 16];
        let (length, received) = receive(theirs.as_fd(), &mut bytes).unwrap();
        assert_eq!((&bytes[..length], received.len()), (b"name".as_slice(), 2));
        let mut copy = File::from(received.into_iter().next().unwrap());
        copy.rewind().unwrap();
        let mut text = String::new();
        copy.read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
    }

    #[test]
    fn what_cannot_be_sent_is_said() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let many = vec![ours.as_fd(); MOST + 1];
        assert_eq!(send(ours.as_fd(), b"x", &many), Err(Errno::EINVAL));
        drop(theirs);
        assert_eq!(send(ours.as_fd(), b"x", &[]), Err(Errno::EPIPE));
    }
}
