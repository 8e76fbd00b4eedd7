//! libvirt guests.
