// Ends the process when an async function is done: 0, or 1 with what went wrong.
module.exports = (main) =>
  main().then(
    () => process.exit(0),
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
