"""Which files count as pictures when a folder is searched; a picture that is named is read whatever its suffix."""

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.dib', '.webp', '.tif', '.tiff', '.ppm', '.pgm',
                  '.pbm', '.pnm', '.jp2', '.gif', '.avif')
