"""The console in the browser: its page, and the websocket between that and Proxmox.

The relay logs in to the VM's VNC server itself, with the one-time password that Proxmox gave for
this session, and shows the browser a server that asks for none. So nothing of Proxmox's ever
reaches the browser, not even a password that has been used; and the page needs no VNC password in
hand before it connects.
"""
